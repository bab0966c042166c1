import { z } from 'zod';
import { DEFAULT_MAX_QUEUED } from '../transport/admission.ts';

const positiveInt = z.coerce.number().int().positive();

/** Described in docs/settings.md. */
export const environmentSchema = z.object({
  REDIS_URL: z.url({ protocol: /^rediss?$/ }),
  /**
   * Lines of one batch that are submitted and not answered: about twice the rows of the workers.
   */
  BATCH_WINDOW: positiveInt.max(4096).default(32),
  /** Batches at a time. */
  BATCH_CONCURRENCY: positiveInt.max(256).default(4),
  /** How long a batch keeps its place while another waits that is as urgent. */
  BATCH_TURN_MS: positiveInt.min(100).default(60_000),
  /** As the edges have it: what a tenant's files may take together, with the output of batches. */
  MAX_FILES_BYTES: positiveInt.min(1024).default(1_000_000_000),
  MAX_QUEUED: positiveInt.default(DEFAULT_MAX_QUEUED),
  LOCK_MS: positiveInt.min(500).default(5000),
  STALLED_CHECK_MS: positiveInt.min(100).default(2000),
  /** A runner that was told to stop leaves its batches to others within this time. */
  GRACE_MS: positiveInt.default(10_000),
});

/**
 * Reads the environment once, at start; nothing else in the process looks at it.
 *
 * @throws {Error} listing every variable that is missing or wrong
 */
export function loadBatchesConfig(environment: Readonly<Record<string, string | undefined>>) {
  const parsed = environmentSchema.safeParse(environment);
  if (!parsed.success) throw new Error(`bad environment\n${z.prettifyError(parsed.error)}`);
  const env = parsed.data;
  return {
    redisUrl: env.REDIS_URL,
    maxQueued: env.MAX_QUEUED,
    window: env.BATCH_WINDOW,
    maxTenantBytes: env.MAX_FILES_BYTES,
    consumer: {
      maxRunning: env.BATCH_CONCURRENCY,
      turnMs: env.BATCH_TURN_MS,
      lockMs: env.LOCK_MS,
      stalledCheckMs: env.STALLED_CHECK_MS,
      graceMs: env.GRACE_MS,
    },
  } as const;
}
