/** The package's version. package.json lies outside the sources, so it is repeated here; a test holds the two together. */
export const version = '0.1.0';
