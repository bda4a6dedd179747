import { payloadTarget } from '../make/payload.ts';

export default payloadTarget('zstd', 2000);
