import { payloadTarget } from '../make/payload.ts';

export default payloadTarget('bzip2', 1000);
