import { availableParallelism, homedir, totalmem } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { DEFAULT_QUANTUM_TOKENS } from './engine/scheduler.ts';
import { WEIGHT_FORMATS } from './model/builder.ts';
import { MAX_DRAFT_TOKENS, PROPOSERS } from './speculative/proposer.ts';

/** All but lookahead, whose side tokens cost at every step, drafted or not. */
const DEFAULT_PROPOSERS = PROPOSERS.filter((proposer) => proposer !== 'lookahead');

const proposersSchema = z.string().transform((text, context) => {
  const names = text === 'off' ? [] : text.split(',').map((name) => name.trim());
  const known = names.flatMap((name) => PROPOSERS.filter((proposer) => proposer === name));
  if (known.length < names.length) {
    context.addIssue({ code: 'custom', message: `must be off or some of ${PROPOSERS.join(', ')}` });
  }
  return known;
});

/** Of what the machine has, or the container may have. */
const memoryMib = Math.min(totalmem(), process.constrainedMemory() || Infinity) / 2 ** 20;

const positiveInt = z.coerce.number().int().positive();

/** Described in docs/settings.md. */
export const environmentSchema = z
  .object({
    REDIS_URL: z.url({ protocol: /^rediss?$/ }),
    MODEL_DIR: z.string().min(1),
    /** What clients call the model; by default its directory's name. */
    MODEL_NAME: z.string().min(1).max(200).optional(),
    /** A small model with the same tokenizer, to draft for this one. */
    DRAFT_MODEL_DIR: z.string().min(1).optional(),
    /** Changes no byte of an answer, so each worker may choose by itself. */
    DRAFT_WEIGHT_FORMAT: z.enum([...WEIGHT_FORMATS, 'auto']).default('auto'),
    /** Who may draft, joined by commas; `off` for nobody. */
    PROPOSERS: proposersSchema.default(DEFAULT_PROPOSERS),
    MAX_DRAFT_TOKENS: positiveInt.max(MAX_DRAFT_TOKENS).default(MAX_DRAFT_TOKENS),
    EXECUTION_PROVIDER: z.enum(['cpu', 'webgpu']).default('cpu'),
    /** `auto` measures and chooses; the first worker of a model decides for all. */
    WEIGHT_FORMAT: z.enum([...WEIGHT_FORMATS, 'auto']).default('fp32'),
    CACHE_DIR: z
      .string()
      .min(1)
      .default(join(homedir(), '.cache', 'rivulet')),
    /**
     * By default one core is left to Redis, edge and the main thread, without which no token gets
     * out.
     */
    NUM_THREADS: positiveInt
      .max(1024)
      .default(Math.max(1, Math.min(availableParallelism() - 1, 16))),
    MAX_SEQUENCES: positiveInt.max(1024).default(16),
    MAX_BATCHED_TOKENS: positiveInt.default(256),
    /**
     * Output tokens of each choice that a request without bound has before it makes room for one
     * that waits: at least these, and no fewer than make up for reading its context again.
     */
    QUANTUM_TOKENS: positiveInt.default(DEFAULT_QUANTUM_TOKENS),
    /**
     * Memory for keys and values of running requests, a quarter of all by default: it bounds the
     * context that is served, and those that outgrow it wait for each other.
     */
    KV_CACHE_MIB: positiveInt.default(Math.max(1, Math.floor(memoryMib / 4))),
    /** Memory for prompts that may come again; 0 switches the prefix cache off. */
    PREFIX_CACHE_MIB: z.coerce.number().int().nonnegative().default(256),
    LOCK_MS: positiveInt.min(500).default(2000),
    STALLED_CHECK_MS: positiveInt.min(100).default(1000),
    /** A worker that was told to stop hands its requests over within this time. */
    GRACE_MS: positiveInt.default(10_000),
    /**
     * After this long without a listener a request that is to end with its client is cancelled:
     * longer than the edge waits for one to come back.
     */
    ORPHAN_MS: positiveInt.default(30_000),
    /** How long the log of an ended request can be read. */
    RETENTION_MS: positiveInt.default(3_600_000),
    /** How long events of a running endless request can be read, */
    LOG_RETENTION_MS: positiveInt.default(3_600_000),
    /** and how many of them at most, in MiB: with log-probabilities a token takes two KiB. */
    LOG_MAX_MIB: z.coerce.number().positive().default(64),
    METRICS_PORT: z.coerce.number().int().min(0).max(65_535).optional(),
    LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
  })
  .refine((env) => env.MAX_BATCHED_TOKENS >= env.MAX_SEQUENCES, {
    path: ['MAX_BATCHED_TOKENS'],
    message: 'must be at least MAX_SEQUENCES, or some sequences would wait for ever',
  });

/**
 * Reads the environment once, at start; nothing else in the worker looks at `process.env`.
 *
 * @throws {Error} listing every variable that is missing or wrong
 */
export function loadConfig(environment: NodeJS.ProcessEnv) {
  const parsed = environmentSchema.safeParse(environment);
  if (!parsed.success) throw new Error(`bad environment\n${z.prettifyError(parsed.error)}`);
  const env = parsed.data;
  return {
    redisUrl: env.REDIS_URL,
    model: {
      modelDir: resolve(env.MODEL_DIR),
      name: env.MODEL_NAME ?? basename(resolve(env.MODEL_DIR)),
      cacheDir: resolve(env.CACHE_DIR),
      executionProvider: env.EXECUTION_PROVIDER,
      weightFormat: env.WEIGHT_FORMAT,
      numThreads: env.NUM_THREADS,
    },
    speculation: {
      draftModelDir: env.DRAFT_MODEL_DIR === undefined ? null : resolve(env.DRAFT_MODEL_DIR),
      draftWeightFormat: env.DRAFT_WEIGHT_FORMAT,
      proposers: env.PROPOSERS,
      maxDraftTokens: env.MAX_DRAFT_TOKENS,
    },
    kvCacheBytes: env.KV_CACHE_MIB * 2 ** 20,
    prefixCacheBytes: env.PREFIX_CACHE_MIB * 2 ** 20,
    limits: {
      maxSequences: env.MAX_SEQUENCES,
      maxBatchedTokens: env.MAX_BATCHED_TOKENS,
      quantumTokens: env.QUANTUM_TOKENS,
    },
    lock: { lockMs: env.LOCK_MS, stalledCheckMs: env.STALLED_CHECK_MS },
    graceMs: env.GRACE_MS,
    orphanMs: env.ORPHAN_MS,
    retentionMs: env.RETENTION_MS,
    logLimits: { retentionMs: env.LOG_RETENTION_MS, maxLogLength: env.LOG_MAX_MIB * 2 ** 20 },
    metricsPort: env.METRICS_PORT ?? null,
    logLevel: env.LOG_LEVEL,
  } as const;
}

export type WorkerConfig = ReturnType<typeof loadConfig>;
