import { z } from 'zod';
import { toTenantId } from '../shared/ids.ts';
import { tenantSecretsSchema } from '../shared/protocol/webhook-secret.ts';
import { DEFAULT_MAX_QUEUED } from './transport/admission.ts';

/** `key:tenant,...`; keys hold no comma, tenants no colon. */
const apiKeysSchema = z.string().transform((text, context) => {
  const pairs = text.split(',').map((entry) => /^\s*(\S+):([\w.-]{1,64})\s*$/.exec(entry));
  const keys = new Map(
    pairs
      .filter((pair) => pair !== null)
      .map(([, key = '', tenant = '']) => [key, toTenantId(tenant)]),
  );
  if (pairs.includes(null) || keys.size !== pairs.length) {
    context.addIssue({ code: 'custom', message: 'must be key:tenant pairs, joined by commas' });
  }
  return keys;
});

/** What the edge wants to know on any platform, each with the name of its variable or binding. */
export const appEnvironmentSchema = z.object({
  API_KEYS: apiKeysSchema.optional(),
  MAX_BODY_BYTES: z.coerce
    .number()
    .int()
    .min(1024)
    .default(8 * 1024 * 1024),
  /** Longest file that is taken, in bytes. */
  FILE_MAX_BYTES: z.coerce.number().int().min(1024).default(100_000_000),
  /** Files that a tenant may have, and their bytes together: Redis keeps them in memory. */
  MAX_FILES: z.coerce.number().int().min(1).default(1000),
  MAX_FILES_BYTES: z.coerce.number().int().min(1024).default(1_000_000_000),
  /** Batches of a tenant that have not ended. */
  MAX_OPEN_BATCHES: z.coerce.number().int().min(1).default(100),
  /** How long a file is kept that says nothing about it. */
  FILE_LIFE_DAYS: z.coerce.number().positive().max(365).default(30),
  /** How long a job is kept after its end. */
  JOB_RETENTION_MS: z.coerce
    .number()
    .int()
    .min(1000)
    .default(24 * 3_600_000),
  /** For development: webhooks over http, and to addresses of this machine. */
  ALLOW_INSECURE_WEBHOOKS: z.stringbool().default(false),
  /** As the process that delivers webhooks has it: `tenant:whsec_...` pairs, joined by commas. */
  WEBHOOK_SECRETS: tenantSecretsSchema.default(new Map()),
  /** How long what ended before a worker had it is kept, as the workers' setting of this name. */
  RETENTION_MS: z.coerce.number().int().min(1).default(3_600_000),
  HEARTBEAT_MS: z.coerce.number().int().min(1).default(15_000),
  /** A client that went away may come back within this time; then its request is cancelled. */
  DISCONNECT_GRACE_MS: z.coerce.number().int().min(0).max(25_000).default(5000),
  /** Requests that may wait for one model, of each fingerprint. */
  MAX_QUEUED: z.coerce.number().int().min(1).default(DEFAULT_MAX_QUEUED),
});

/** On Node. */
export const environmentSchema = appEnvironmentSchema.extend({
  PORT: z.coerce.number().int().min(0).max(65_535).default(8787),
  HOST: z.string().min(1).default('0.0.0.0'),
  REDIS_URL: z.url({ protocol: /^rediss?$/ }),
  /** Streams that have not ended so long after a signal are cut; their clients resume elsewhere. */
  GRACE_MS: z.coerce.number().int().min(0).default(10_000),
});

export function toAppOptions(env: z.infer<typeof appEnvironmentSchema>) {
  return {
    apiKeys: env.API_KEYS ?? null,
    maxBodyBytes: env.MAX_BODY_BYTES,
    files: {
      maxBytes: env.FILE_MAX_BYTES,
      maxFiles: env.MAX_FILES,
      maxTenantBytes: env.MAX_FILES_BYTES,
      lifeMs: env.FILE_LIFE_DAYS * 86_400_000,
    },
    maxOpenBatches: env.MAX_OPEN_BATCHES,
    webhooks: {
      isInsecureAllowed: env.ALLOW_INSECURE_WEBHOOKS,
      tenantsWithSecret: new Set(env.WEBHOOK_SECRETS.keys()), // the secrets are not wanted here
    },
    jobRetentionMs: env.JOB_RETENTION_MS,
    heartbeatMs: env.HEARTBEAT_MS,
    disconnectGraceMs: env.DISCONNECT_GRACE_MS,
  } as const;
}

/**
 * Reads the environment once, at start; nothing else in the edge looks at it.
 *
 * @throws {Error} listing every variable that is missing or wrong
 */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>) {
  const parsed = environmentSchema.safeParse(environment);
  if (!parsed.success) throw new Error(`bad environment\n${z.prettifyError(parsed.error)}`);
  const env = parsed.data;
  return {
    port: env.PORT,
    hostname: env.HOST,
    redisUrl: env.REDIS_URL,
    graceMs: env.GRACE_MS,
    maxQueued: env.MAX_QUEUED,
    retentionMs: env.RETENTION_MS,
    app: toAppOptions(env),
  } as const;
}

/** On Workers. */
export const bindingsSchema = appEnvironmentSchema.extend({
  REDIS_URL: z.url({ protocol: /^rediss?$/ }),
  /**
   * Durable Objects over which requests are spread. Each has two connections to Redis while it is
   * busy.
   */
  NUM_HUBS: z.coerce.number().int().min(1).max(1024).default(4),
  /** How long an idle one keeps them. */
  HUB_IDLE_MS: z.coerce.number().int().min(0).default(10_000),
});

/** Names of the bindings that `loadWorkersConfig` reads. */
export const WORKERS_VARIABLES: readonly string[] = Object.keys(bindingsSchema.shape);

/**
 * The same on Workers, of bindings.
 *
 * @throws {Error} listing every binding that is missing or wrong
 */
export function loadWorkersConfig(bindings: object) {
  const parsed = bindingsSchema.safeParse(bindings);
  if (!parsed.success) throw new Error(`bad environment\n${z.prettifyError(parsed.error)}`);
  const env = parsed.data;
  return {
    numHubs: env.NUM_HUBS,
    hub: {
      redisUrl: env.REDIS_URL,
      maxQueued: env.MAX_QUEUED,
      retentionMs: env.RETENTION_MS,
      idleMs: env.HUB_IDLE_MS,
    },
    app: toAppOptions(env),
  } as const;
}
