import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { HonoAdapter } from '@bull-board/hono';
import { serveStatic } from '@hono/node-server/serve-static';
import { Queue } from 'bullmq';
import { Hono } from 'hono';
import { basicAuth } from 'hono/basic-auth';
import { HTTPException } from 'hono/http-exception';
import { secureHeaders } from 'hono/secure-headers';
import { z } from 'zod';
import { JOB_CLASSES } from '../shared/protocol/job.ts';
import { Keys } from '../shared/protocol/keys.ts';
import type { RedisClient } from './transport/redis-connection.ts';
import type { Transport } from './transport/transport.ts';

export interface BoardOptions {
  /** Where it is; without a slash at the end. */
  readonly path: string;
  /** The password of the user `operator`. */
  readonly operatorKey: string;
}

/** Described in docs/settings.md. */
export const environmentSchema = z.object({
  OPERATOR_KEY: z.string().min(16).optional(),
  BULL_BOARD_PATH: z
    .string()
    .regex(/^(?:\/[\w-]+)+$/)
    .default('/operator/queues'),
});

/**
 * @returns `null` without an `OPERATOR_KEY`: then there is no board
 * @throws {Error} listing every variable that is wrong
 */
export function loadBoardConfig(
  environment: Readonly<Record<string, string | undefined>>,
): BoardOptions | null {
  const parsed = environmentSchema.safeParse(environment);
  if (!parsed.success) throw new Error(`bad environment\n${z.prettifyError(parsed.error)}`);
  const { OPERATOR_KEY: operatorKey, BULL_BOARD_PATH: path } = parsed.data;
  return operatorKey === undefined ? null : { path, operatorKey };
}

/** Its page asks for fonts of somebody else's, who would learn of every look. */
const OWN_SOURCES = {
  defaultSrc: ["'self'"],
  styleSrc: ["'self'", "'unsafe-inline'"],
  imgSrc: ["'self'", 'data:'],
  frameAncestors: ["'none'"],
};

/**
 * What is on the queues, for operators: which jobs wait, run or are tried again, and nothing of
 * what they hold.
 */
export function createBoard(
  client: RedisClient,
  transport: Pick<Transport, 'models'>,
  { path, operatorKey }: BoardOptions,
): Hono {
  const adapter = new HonoAdapter(serveStatic);
  adapter.setBasePath(path);
  const { addQueue } = createBullBoard({ queues: [], serverAdapter: adapter });
  const known = new Set<string>();
  const keys = new Keys();

  function show(label: string, { prefix, name }: ReturnType<Keys['queue']>): void {
    if (known.has(label + name)) return;
    known.add(label + name);
    const queue = new Queue(name, { prefix, connection: client, skipMetasUpdate: true });
    queue.on('error', () => undefined); // the page says so
    const shown = new BullMQAdapter(queue, { readOnlyMode: true, prefix: label });
    for (const field of ['data', 'returnValue', 'progress'] as const) {
      shown.setFormatter(field, () => null);
    }
    addQueue(shown);
  }

  async function showAll(): Promise<void> {
    show('', keys.batchQueue);
    show('', keys.deliveries);
    for (const { card } of await transport.models()) {
      const { name: model, fingerprint } = card;
      for (const each of JOB_CLASSES) {
        show(`${model} ${fingerprint} `, keys.queue({ model, fingerprint, class: each }));
      }
    }
  }

  const board = new Hono();
  board.onError((error, c) =>
    error instanceof HTTPException ? error.getResponse() : c.text('the queues cannot be read', 503),
  );
  board.use(secureHeaders({ contentSecurityPolicy: OWN_SOURCES }));
  board.use(basicAuth({ username: 'operator', password: operatorKey }));
  board.use(async (c, next) => {
    if (c.req.method !== 'GET') return c.text('only to be looked at', 405, { allow: 'GET' });
    await showAll();
    return next();
  });
  board.route('/', adapter.registerPlugin());
  return board;
}
