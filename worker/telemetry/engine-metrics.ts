import { Counter, Gauge, type Registry } from 'prom-client';

/** Where the engine stands, and what it has done so far. */
export interface EngineReading {
  readonly numRunning: number;
  readonly numWaiting: number;
  readonly numPreemptions: number;
  readonly kvCacheBytes: number;
  readonly prefixCacheBytes: number;
  readonly numPrefixTokensAsked: number;
  readonly numPrefixTokensCopied: number;
  readonly numPrefixBlocksEvicted: number;
}

/** Memory that may be taken. */
export interface CacheBudgets {
  readonly kvCacheBytes: number;
  readonly prefixCacheBytes: number;
}

type Read = () => Promise<EngineReading>;
type Line = readonly [name: string, help: string, of: (reading: EngineReading) => number];

const GAUGES: readonly Line[] = [
  ['num_requests_running', 'Choices that have a row', ({ numRunning }) => numRunning],
  ['num_requests_waiting', 'Choices that wait here for a row', ({ numWaiting }) => numWaiting],
  [
    'kv_cache_bytes',
    'Keys and values of choices that have a row, or had one and are kept for their return',
    ({ kvCacheBytes }) => kvCacheBytes,
  ],
  [
    'prefix_cache_bytes',
    'Keys and values of prefixes that may come again',
    ({ prefixCacheBytes }) => prefixCacheBytes,
  ],
];

const COUNTERS: readonly Line[] = [
  [
    'num_preemptions_total',
    'Times that a choice lost its row before its end',
    ({ numPreemptions }) => numPreemptions,
  ],
  [
    'prefix_cache_queries_total',
    'Prompt tokens that were looked for among known prefixes',
    ({ numPrefixTokensAsked }) => numPrefixTokensAsked,
  ],
  [
    'prefix_cache_hits_total',
    'Of those, the ones that were found, and not computed again',
    ({ numPrefixTokensCopied }) => numPrefixTokensCopied,
  ],
  [
    'prefix_cache_evicted_blocks_total',
    'Blocks of prefixes that had to go for others',
    ({ numPrefixBlocksEvicted }) => numPrefixBlocksEvicted,
  ],
];

/** What the engine says of itself whenever it is asked, by the names of other servers. */
export function addEngineMetrics(registry: Registry, budgets: CacheBudgets, read: Read): void {
  const registers = [registry];
  const share: Line = [
    'kv_cache_usage_perc',
    'Of the memory for keys and values of choices, the part that is taken; 1 is all of it',
    ({ kvCacheBytes }) => kvCacheBytes / budgets.kvCacheBytes,
  ];
  for (const [name, help, of] of [...GAUGES, share]) {
    const collect = async () => gauge.set(of(await read()));
    const gauge: Gauge = new Gauge({ name, help, registers, collect });
  }
  for (const [name, help, of] of COUNTERS) {
    const collect = async () => {
      const value = of(await read());
      counter.reset();
      counter.inc(value);
    };
    const counter: Counter = new Counter({ name, help, registers, collect });
  }
  const budget = (name: string, help: string, bytes: number) =>
    new Gauge({ name, help, registers }).set(bytes);
  budget('kv_cache_budget_bytes', 'KV_CACHE_MIB', budgets.kvCacheBytes);
  budget('prefix_cache_budget_bytes', 'PREFIX_CACHE_MIB', budgets.prefixCacheBytes);
}
