/** What `npm run bench` hands a benchmark. */
export interface BenchOptions {
  /** Shows in seconds that everything runs; its numbers mean nothing. */
  readonly isQuick: boolean;
  /**
   * Interleaved repetitions; medians are taken over them. `null` for the benchmark's own choice.
   */
  readonly rounds: number | null;
  /**
   * Of the engine where it runs in the benchmark's own process; a worker takes NUM_THREADS as ever.
   */
  readonly numThreads: number;
  readonly cacheDir: string;
  /** Arguments that only this benchmark knows. */
  readonly rest: readonly string[];
}

/** An aim, and what was reached of it. `value` is `null` where it could not be measured. */
export interface Target {
  readonly name: string;
  readonly value: number | null;
  /** `>= 1.3`, `< 0.1`: the comparison that `met` is the outcome of. */
  readonly aim: string;
  readonly met: boolean;
}

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly (string | number | null)[])[];
}

export interface BenchResult {
  /** Models that were measured, with their size. */
  readonly models: readonly string[];
  readonly tables: readonly Table[];
  readonly targets: readonly Target[];
  /** What a reader of the numbers must know. */
  readonly notes: readonly string[];
}

/** What each `*.bench.ts` exports. */
export interface Benchmark {
  run(options: BenchOptions): Promise<BenchResult>;
}

const COMPARISONS = {
  '>=': (value: number, bound: number) => value >= bound,
  '<=': (value: number, bound: number) => value <= bound,
  '<': (value: number, bound: number) => value < bound,
} as const;

/** Holds a value against its aim; one that is no number misses it. */
export function targetOf(
  name: string,
  value: number | null,
  comparison: keyof typeof COMPARISONS,
  bound: number,
): Target {
  const measured = Number.isFinite(value) ? value : null;
  const met = measured !== null && COMPARISONS[comparison](measured, bound);
  return { name, value: measured, aim: `${comparison} ${bound}`, met };
}
