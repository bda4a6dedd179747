import { payloadTarget } from '../make/payload.ts';

export default payloadTarget('lzma', 4000);
