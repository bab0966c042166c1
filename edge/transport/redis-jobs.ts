import { z } from 'zod';
import { PlatformError } from '../../shared/errors.ts';
import { type RequestId, toRequestId } from '../../shared/ids.ts';
import { isNotified, type Job } from '../../shared/protocol/job.ts';
import { FORGET, PAGE_AFTER, QUEUE_PLACE } from '../../shared/protocol/job-scripts.ts';
import { runScript } from '../../shared/protocol/request-scripts.ts';
import type { Script } from '../../shared/protocol/scripts.ts';
import {
  type ForgetReply,
  forgetReplySchema,
  isWanted,
  type JobPage,
  type JobQuery,
  type JobStore,
  type QueuePlace,
} from './jobs.ts';
import type { IntakeContext, RequestIntake } from './request-intake.ts';
import type { RequestState } from './transport.ts';

/** A job whose edge died while it was queued is looked at after this long. */
const LOOK_AFTER_MS = 5000;
/** Jobs that are read at once, prompts and all, and that one page looks at. */
const NUM_READ = 20;
const MAX_SCANNED = 1000;
/**
 * Entries that are looked at when one is added; younger ones may be what somebody goes on after.
 */
const NUM_TIDIED = 3;
const TIDIED_AFTER_MS = 24 * 3_600_000;
/** An index has a job a moment before it is created. */
const CREATED_WITHIN_MS = 60_000;

const pageSchema = z.array(z.string()).nullable();

/** Background requests in Redis. */
export class RedisJobs implements JobStore {
  readonly #context: IntakeContext;
  readonly #intake: RequestIntake;

  constructor(context: IntakeContext, intake: RequestIntake) {
    this.#context = context;
    this.#intake = intake;
  }

  /**
   * Whatever is lost on the way, one who looks after pending jobs finds it: that is written first.
   */
  async enqueue(job: Job): Promise<Job> {
    const { client, keys, queues, reach } = this.#context;
    await this.#intake.admit(job);
    if (isNotified(job)) {
      const index = keys.jobsOf(job.tenant);
      const dueMs = Date.now() + LOOK_AFTER_MS;
      await Promise.all([
        reach.call(() => client.zadd(keys.pendingJobs, dueMs, job.id)),
        reach.call(() => client.zadd(index, job.createdMs, job.id)),
        this.#tidy(index),
      ]);
    }
    const standing = await this.#intake.create(job);
    await queues.add(standing);
    return standing;
  }

  async find(id: RequestId): Promise<RequestState | null> {
    const state = await this.#intake.find(id);
    const deadlineMs = state?.job.deadlineMs ?? Infinity;
    if (state?.status !== 'queued' || deadlineMs > Date.now()) return state;
    await this.#intake.cancel(state.job, 'deadline');
    return this.#intake.find(id);
  }

  async place(job: Job): Promise<QueuePlace | null> {
    const { keys, queues } = this.#context;
    const { wait, prioritized } = keys.waitingJobs(job);
    const numAhead = z.int().parse(await this.#run(QUEUE_PLACE, [wait, prioritized], [job.id]));
    if (numAhead < 0) return null;
    const { ratePerSecond } = await queues.loadFor(job);
    return { numAhead, ratePerSecond };
  }

  async list(query: JobQuery): Promise<JobPage> {
    const index = this.#context.keys.jobsOf(query.tenant);
    const goneIds = new Set<string>();
    const page = await this.#scan(index, query, goneIds);
    if (page.lastId !== null) goneIds.delete(page.lastId);
    await this.#drop(index, [...goneIds]);
    return page;
  }

  async #scan(index: string, query: JobQuery, goneIds: Set<string>): Promise<JobPage> {
    const jobs: RequestState[] = [];
    let lastId = query.after;
    for (let numScanned = 0; numScanned < MAX_SCANNED; numScanned += NUM_READ) {
      const ids = await this.#pageOf(index, lastId, NUM_READ);
      const states = await Promise.all(ids.map((id) => this.find(toRequestId(id))));
      for (const [i, id] of ids.entries()) {
        const state = states[i] ?? null;
        if (state === null) goneIds.add(id);
        if (state !== null && isWanted(state, query)) {
          if (jobs.length === query.limit) return { jobs, lastId, hasMore: true };
          jobs.push(state);
        }
        lastId = id;
      }
      if (ids.length < NUM_READ) return { jobs, lastId, hasMore: false };
    }
    return { jobs, lastId, hasMore: true };
  }

  /**
   * For an index that nobody lists: looks at more entries than are added, so that forgotten ones do
   * not add up.
   */
  async #tidy(index: string): Promise<void> {
    const { client, reach } = this.#context;
    const picked = await reach.call(() => client.zrandmember(index, NUM_TIDIED, 'WITHSCORES'));
    const beforeMs = Date.now() - TIDIED_AFTER_MS;
    const ids = picked.filter((_, i) => i % 2 === 0 && Number(picked[i + 1]) < beforeMs);
    const stages = await Promise.all(ids.map((id) => this.#intake.stageOf(toRequestId(id))));
    await this.#drop(
      index,
      ids.filter((_, i) => stages[i] === 'gone'),
    );
  }

  /** Those that are about to be created are left. */
  async #drop(index: string, goneIds: readonly string[]): Promise<void> {
    if (goneIds.length === 0) return;
    const { client, reach } = this.#context;
    const scores = await reach.call(() => client.zmscore(index, ...goneIds));
    const beforeMs = Date.now() - CREATED_WITHIN_MS;
    const old = goneIds.filter((_, i) => Number(scores[i] ?? Infinity) < beforeMs);
    if (old.length > 0) await reach.call(() => client.zrem(index, ...old));
  }

  async forget({ id, webhook }: Job): Promise<ForgetReply> {
    const { keys } = this.#context;
    const { state, log, claims, outbox } = keys.request(id);
    // Its place in the index stays until a list meets it: somebody may be about to go on after it.
    const kept = [state, outbox, log, claims, keys.deliveriesOf(id)];
    const reply = await this.#run(FORGET, kept, [webhook === undefined ? 0 : 1]);
    return forgetReplySchema.parse(reply);
  }

  /** @throws {PlatformError} `invalid_request` when `after` is not in the set */
  async #pageOf(index: string, after: string | null, limit: number): Promise<string[]> {
    const ids = pageSchema.parse(await this.#run(PAGE_AFTER, [index], [after ?? '', limit]));
    if (ids === null) throw unknownAfter(after ?? '');
    return ids;
  }

  #run(
    script: Script,
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<unknown> {
    const { client, reach } = this.#context;
    return reach.call(() => runScript(client, script, keys, args));
  }
}

/** Worded for what a client named. */
function unknownAfter(after: string): PlatformError {
  const message = `after is ${JSON.stringify(after.slice(0, 80))}; it must be where a page of this list ended`;
  return new PlatformError('invalid_request', message, { param: 'after' });
}
