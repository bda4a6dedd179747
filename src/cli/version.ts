/** The package's version. It is repeated here because package.json is outside the sources; a test checks that both are equal. */
export const version = '0.1.0';
