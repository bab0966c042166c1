import { Hono } from 'hono';
import { cors } from 'hono/cors';
import type { RequestId, TenantId } from '../shared/ids.ts';
import { type CreateEncoder, createModelCatalog, type ModelCatalog } from './catalog.ts';
import { toErrorResponse, toNotFound } from './errors.ts';
import { consoleLog, type Log } from './log.ts';
import { authenticate } from './middleware/auth.ts';
import { nameRequest } from './middleware/request-id.ts';
import { batches } from './routes/batches.ts';
import { chat } from './routes/chat.ts';
import { completions } from './routes/completions.ts';
import { deadLetters } from './routes/dead-letters.ts';
import { batchDeliveries, jobDeliveries } from './routes/deliveries.ts';
import { events } from './routes/events.ts';
import { files } from './routes/files.ts';
import { health } from './routes/health.ts';
import { jobs } from './routes/jobs.ts';
import { models } from './routes/models.ts';
import { requests } from './routes/requests.ts';
import type { Transport } from './transport/transport.ts';

export interface FileLimits {
  /** Longest file, in bytes. */
  readonly maxBytes: number;
  /** What a tenant's files may be together. */
  readonly maxFiles: number;
  readonly maxTenantBytes: number;
  /** How long a file is kept that says nothing about it. */
  readonly lifeMs: number;
}

/** What holds for webhooks before anything is sent to them. */
export interface WebhookOptions {
  /** For development: plain http, and addresses of this machine and its network. */
  readonly isInsecureAllowed: boolean;
  /** Theirs are signed with a secret of the operator's; for others' one is drawn. */
  readonly tenantsWithSecret: ReadonlySet<string>;
}

export interface AppOptions {
  /** Longest body that is read, in bytes. */
  readonly maxBodyBytes: number;
  readonly files: FileLimits;
  /** Batches of a tenant that have not ended. */
  readonly maxOpenBatches: number;
  readonly webhooks: WebhookOptions;
  /** How long a background request is kept after its end. */
  readonly jobRetentionMs: number;
  /** How long a stream may be silent before a comment line keeps it alive. */
  readonly heartbeatMs: number;
  /** How long a client that went away may take to come back before its request is cancelled. */
  readonly disconnectGraceMs: number;
  /** API keys and whose they are; `null` lets everybody in, as tenant `default`. */
  readonly apiKeys: ReadonlyMap<string, TenantId> | null;
  /** Aborts when the process is about to end: connections then close, but their requests go on. */
  readonly shutdown: AbortSignal;
  /** Is handed work that goes on after its response, where the platform does not see to it. */
  readonly onDetached: (work: Promise<unknown>) => void;
  readonly now: () => number;
  /** Draws a seed for a request that brings none: unsigned 32 bits. */
  readonly drawSeed: () => number;
  /** Decides where texts are encoded; absent for here and now. */
  readonly createEncoder?: CreateEncoder;
  readonly log: Log;
}

/** What middleware leaves for the routes. */
export interface AppEnv {
  Bindings: Record<string, unknown>;
  Variables: {
    /** Of the request that this call makes or asks about; else one of its own. */
    requestId: RequestId;
    tenant: TenantId;
    transport: Transport;
    catalog: ModelCatalog;
    options: AppOptions;
    log: Log;
  };
}

const EXPOSED_HEADERS = [
  'x-request-id',
  'x-seed',
  'x-ignored-parameters',
  'retry-after',
  'preference-applied',
  'location',
  'content-type',
];

export const defaultOptions: AppOptions = {
  maxBodyBytes: 8 * 1024 * 1024,
  files: {
    maxBytes: 100_000_000,
    maxFiles: 1000,
    maxTenantBytes: 1_000_000_000,
    lifeMs: 30 * 86_400_000,
  },
  maxOpenBatches: 100,
  webhooks: { isInsecureAllowed: false, tenantsWithSecret: new Set() },
  jobRetentionMs: 24 * 3_600_000,
  heartbeatMs: 15_000,
  disconnectGraceMs: 0,
  apiKeys: null,
  shutdown: new AbortController().signal,
  onDetached: () => undefined,
  now: Date.now,
  drawSeed: () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
  log: consoleLog,
};

/**
 * Builds the one app that every platform serves.
 *
 * @param connect called for every request; should hand out what it holds rather than open anything
 */
export function createApp(
  connect: (env: AppEnv['Bindings']) => Transport,
  overrides: Partial<AppOptions> = {},
): Hono<AppEnv> {
  const options = { ...defaultOptions, ...overrides };
  const catalog = createModelCatalog(options.createEncoder);
  const app = new Hono<AppEnv>();

  app.onError((error, c) => toErrorResponse(error, c));
  app.notFound(toNotFound);
  app.use(nameRequest);
  app.use(cors({ origin: '*', exposeHeaders: EXPOSED_HEADERS, maxAge: 86_400 }));
  app.use(async (c, next) => {
    c.set('options', options);
    c.set('log', options.log);
    c.set('catalog', catalog);
    c.set('transport', connect(c.env));
    await next();
  });
  app.route('/', health);
  app.use('/v1/*', authenticate(options.apiKeys));
  app.route('/v1/completions', completions);
  app.route('/v1/chat/completions', chat);
  app.route('/v1/files', files);
  app.route('/v1/batches', batches);
  app.route('/v1/batches', batchDeliveries);
  app.route('/v1/jobs', jobs);
  app.route('/v1/jobs', jobDeliveries);
  app.route('/v1/events', events);
  app.route('/v1/dead_letters', deadLetters);
  app.route('/v1/models', models);
  app.route('/v1/requests', requests);
  return app;
}
