import { payloadTarget } from '../make/payload.ts';

export default payloadTarget('lzo', 3500);
