import { expect, vi } from 'vitest';
import type { RedisTransport } from '../../edge/transport/redis-transport.ts';
import type { RequestId } from '../../shared/ids.ts';
import { isTerminal, type LoggedEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import { Keys } from '../../shared/protocol/keys.ts';
import { RequestScripts } from '../../shared/protocol/request-scripts.ts';
import { connectRedis, type RedisConnections } from '../../worker/queue/connection.ts';
import { Consumer, type ConsumerOptions } from '../../worker/queue/consumer.ts';
import type { Generator } from '../../worker/queue/generation.ts';
import { LastTries } from '../../worker/queue/last-tries.ts';
import { PatientRedis } from '../../worker/queue/patient-redis.ts';
import type { RunContext } from '../../worker/queue/request-run.ts';
import { createLog } from '../../worker/telemetry/log.ts';
import type { TestRedis } from './redis.ts';
import type { ScriptedGenerator } from './scripted-generator.ts';

export interface TestWorker extends AsyncDisposable {
  readonly consumer: Consumer;
  /** Settles when it has stopped, with the bug that made it if there was one. */
  readonly over: Promise<unknown>;
  /** Tells it to hand over and waits until it has. */
  stop(): Promise<void>;
  /** Cuts it off from Redis for good, as a killed process is. */
  kill(): void;
}

export const testQueue = { model: 'scripted', fingerprint: 'fp' };

export type ContextOverrides = Partial<Omit<RunContext, 'redis' | 'scripts' | 'generator'>>;

/** What a worker of a test works on requests with. */
export function runContextOf(
  { command, isCluster }: Pick<RedisConnections, 'command' | 'isCluster'>,
  generator: Generator,
  overrides: ContextOverrides = {},
): RunContext {
  const keys = new Keys();
  const log = overrides.log ?? createLog('silent');
  const redis = new PatientRedis(command, log);
  return {
    redis,
    keys,
    scripts: new RequestScripts(redis, keys, { isCluster, retentionMs: 60_000 }),
    generator,
    log,
    workerId: 'worker',
    maxClaims: 3,
    lastTries: new LastTries(),
    logLimits: { retentionMs: 3_600_000, maxLogLength: 2 ** 26 },
    orphanMs: 30_000,
    ...overrides,
  };
}

/** A worker with a generator of the test's, in this process; `jobOf()` goes to its queue. */
export async function openTestWorker(
  url: string,
  generator: Generator,
  {
    context,
    ...overrides
  }: Partial<ConsumerOptions> & { readonly context?: ContextOverrides } = {},
): Promise<TestWorker> {
  const redis = await connectRedis(url);
  const consumer = new Consumer(
    {
      queue: testQueue,
      redis,
      maxRunning: 8,
      lockMs: 600,
      stalledCheckMs: 200,
      graceMs: 5000,
      quantumTokens: 1024,
      ...overrides,
    },
    runContextOf(redis, generator, context),
  );
  const shutdown = new AbortController();
  const over = consumer.run(shutdown.signal).catch((error: unknown) => error);
  async function stop(): Promise<void> {
    shutdown.abort();
    await over;
    await redis[Symbol.asyncDispose]();
  }
  return {
    consumer,
    over,
    stop,
    kill: () => void redis[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: stop,
  };
}

/** What readers of one request saw: the text of each choice, and how it ended. */
export async function readAll(events: AsyncIterable<LoggedEvent>) {
  const texts: string[] = [];
  const ids: string[] = [];
  let last: LoggedEvent['event'] | null = null;
  for await (const { id, event } of events) {
    ids.push(`${id.epoch}-${id.seq}`);
    last = event;
    if (event.type === 'tokens') texts[event.choice] = (texts[event.choice] ?? '') + event.text;
  }
  return { texts, ids, last, isComplete: last !== null && isTerminal(last) };
}

export async function generate(transport: RedisTransport, job: Job) {
  return readAll(await transport.submit(job, new AbortController().signal));
}

/** Steps until the log has grown to `count` events. */
export async function stepUntil(
  client: TestRedis['client'],
  generator: ScriptedGenerator,
  { id, count }: { readonly id: RequestId; readonly count: number },
): Promise<void> {
  const numLogged = () => client.xlen(new Keys().request(id).log);
  while ((await numLogged()) < count) {
    generator.step();
    await vi.waitFor(async () => expect(await numLogged()).toBeGreaterThan(0));
  }
}
