import type { BenchSummary } from '../lab/bench/summary.ts';
export function reportBenchPage(summary: BenchSummary): string {
  return String(summary.unit);
}
