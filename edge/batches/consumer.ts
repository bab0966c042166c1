import { Queue, type Job as QueueJob, WaitingError, Worker } from 'bullmq';
import type { Cluster, Redis } from 'ioredis';
import type { Keys } from '../../shared/protocol/keys.ts';
import { type RunContext, runBatch } from './batch-run.ts';
import { Turn } from './turn.ts';

export interface ConsumerOptions {
  /** Commands on it wait for a lost connection to come back. */
  readonly client: Redis | Cluster;
  readonly keys: Keys;
  /** Batches at a time. */
  readonly maxRunning: number;
  readonly turnMs: number;
  /** A batch whose lock was not renewed for this long has lost its runner. */
  readonly lockMs: number;
  readonly stalledCheckMs: number;
  readonly graceMs: number;
}

/** A batch outlives any number of its runners. */
const UNLIMITED = 1_000_000;

/** Takes batches off their queue until told to stop, then leaves them to others. */
export async function consumeBatches(options: ConsumerOptions, context: RunContext): Promise<void> {
  const { client, keys, maxRunning, turnMs, lockMs, stalledCheckMs, graceMs } = options;
  const { prefix, name } = keys.batchQueue;
  const { stopped, log } = context;
  const queue = new Queue(name, { prefix, connection: client, skipMetasUpdate: true });
  queue.on('error', () => undefined); // told by the call that fails
  const process = async (job: QueueJob, token: string | undefined) => {
    using turn = new Turn(job, { queue, turnMs, stopped });
    const runContext = { ...context, stopped: turn.signal };
    const outcome = stopped.aborted ? 'released' : await runBatch(job.id ?? '', runContext);
    if (outcome === 'ended') return;
    await turn.giveBack(token).catch(() => undefined); // without its lock it goes back by itself
    throw new WaitingError();
  };
  const worker = new Worker(name, process, {
    prefix,
    connection: client,
    concurrency: maxRunning,
    lockDuration: lockMs,
    lockRenewTime: Math.floor(lockMs / 3), // so that two renewals may come late
    stalledInterval: stalledCheckMs,
    maxStalledCount: UNLIMITED,
    drainDelay: 2,
    runRetryDelay: 200,
    removeOnComplete: { count: 0 },
    removeOnFail: { count: 0 },
  });
  worker.on('error', ({ message }) => log('queue_error', { reason: message }));
  worker.on('failed', (job, cause) => log('batch_crashed', { id: job?.id, cause }));
  worker.on('stalled', (id) => log('batch_stalled', { id }));
  if (!stopped.aborted) {
    await new Promise((resolve) => stopped.addEventListener('abort', resolve, { once: true }));
  }
  const late = new Promise((resolve) => setTimeout(resolve, graceMs).unref());
  await Promise.race([worker.close(), late]);
}
