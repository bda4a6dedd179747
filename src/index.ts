export { KernelImageError, type ErrorCode, type ErrorData } from './errors.ts';
