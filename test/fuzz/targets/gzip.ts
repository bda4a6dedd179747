import { payloadTarget } from '../make/payload.ts';

export default payloadTarget('gzip', 3000);
