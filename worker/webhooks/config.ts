import { z } from 'zod';
import { tenantSecretsSchema } from '../../shared/protocol/webhook-secret.ts';

/** 5 seconds, 5 minutes, half an hour, then hours: three days in all. */
const DEFAULT_RETRY_SECONDS = '5,300,1800,7200,18000,36000,50400,72000,86400';

const positiveInt = z.coerce.number().int().positive();

const retrySchema = z.string().transform((text, context) => {
  const seconds = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  if (!seconds.every((each) => each > 0 && each <= 30 * 86_400)) {
    context.addIssue({
      code: 'custom',
      message: 'must be positive numbers of seconds, joined by ,',
    });
  }
  return seconds.map((each) => each * 1000);
});

/** Described in docs/settings.md. */
export const environmentSchema = z.object({
  REDIS_URL: z.url({ protocol: /^rediss?$/ }),
  /** Seconds to wait after each failure; one attempt more than there are numbers. */
  WEBHOOK_RETRY_SECONDS: retrySchema.default(() => retrySchema.parse(DEFAULT_RETRY_SECONDS)),
  WEBHOOK_TIMEOUT_MS: positiveInt.max(60_000).default(15_000),
  /** Deliveries at a time, and of those to one endpoint. */
  WEBHOOK_CONCURRENCY: positiveInt.max(4096).default(256),
  WEBHOOK_ENDPOINT_CONCURRENCY: positiveInt.max(256).default(4),
  /** Failures in a row that open an endpoint's breaker, and for how long they do at first. */
  WEBHOOK_BREAKER_FAILURES: positiveInt.default(5),
  WEBHOOK_BREAKER_MS: positiveInt.default(30_000),
  /** At most one `job.output` of a job in this time. */
  WEBHOOK_OUTPUT_MS: positiveInt.min(100).default(1000),
  WEBHOOK_SECRETS: tenantSecretsSchema.default(new Map()),
  /** For development: http, and addresses of this machine. */
  ALLOW_INSECURE_WEBHOOKS: z.stringbool().default(false),
  LOCK_MS: positiveInt.min(500).default(5000),
  STALLED_CHECK_MS: positiveInt.min(100).default(2000),
  /** How long what was cancelled here is kept, as the workers' setting of this name. */
  RETENTION_MS: positiveInt.default(3_600_000),
  /** A process that was told to stop finishes what is on its way within this time. */
  GRACE_MS: positiveInt.default(10_000),
  WEBHOOKS_METRICS_PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info'),
});

/**
 * Reads the environment once, at start; nothing else in the process looks at `process.env`.
 *
 * @throws {Error} listing every variable that is missing or wrong
 */
export function loadWebhooksConfig(environment: NodeJS.ProcessEnv) {
  const parsed = environmentSchema.safeParse(environment);
  if (!parsed.success) throw new Error(`bad environment\n${z.prettifyError(parsed.error)}`);
  const env = parsed.data;
  return {
    redisUrl: env.REDIS_URL,
    scheduleMs: env.WEBHOOK_RETRY_SECONDS,
    timeoutMs: env.WEBHOOK_TIMEOUT_MS,
    maxRunning: env.WEBHOOK_CONCURRENCY,
    endpoint: {
      maxConcurrent: env.WEBHOOK_ENDPOINT_CONCURRENCY,
      maxFailures: env.WEBHOOK_BREAKER_FAILURES,
      openMs: env.WEBHOOK_BREAKER_MS,
      maxOpenMs: 20 * env.WEBHOOK_BREAKER_MS,
    },
    outputMs: env.WEBHOOK_OUTPUT_MS,
    secretsByTenant: env.WEBHOOK_SECRETS,
    isInsecureAllowed: env.ALLOW_INSECURE_WEBHOOKS,
    lock: { lockMs: env.LOCK_MS, stalledCheckMs: env.STALLED_CHECK_MS },
    retentionMs: env.RETENTION_MS,
    graceMs: env.GRACE_MS,
    metricsPort: env.WEBHOOKS_METRICS_PORT ?? null,
    logLevel: env.LOG_LEVEL,
  } as const;
}

export type WebhooksConfig = ReturnType<typeof loadWebhooksConfig>;
