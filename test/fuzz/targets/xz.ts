import { payloadTarget } from '../make/payload.ts';

export default payloadTarget('xz', 1500);
