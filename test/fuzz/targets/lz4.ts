import { payloadTarget } from '../make/payload.ts';

export default payloadTarget('lz4', 4000);
