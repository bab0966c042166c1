import { z } from 'zod';
import { integerFrom, pickFrom, type Rng } from '../support/random.ts';
import { type Answer, answerOfBody, isSame } from './answer.ts';
import type { ChaosApi } from './api.ts';
import { pause } from './client.ts';
import { inParallel } from './in-parallel.ts';
import { type ChaosReceivers, CONDUCTS, type Conduct, isReliable } from './receivers.ts';
import type { ChaosRequest } from './requests.ts';

/** A request whose answer is known, to be asked for as a job. */
export interface ExpectedJob {
  readonly request: ChaosRequest;
  readonly answer: Answer;
}

interface Submitted extends ExpectedJob {
  readonly id: string;
  readonly conduct: Conduct;
}

interface Ended {
  readonly status: string;
  readonly answer: Answer | null;
}

export interface JobsOptions {
  readonly api: ChaosApi;
  readonly receivers: ChaosReceivers;
  readonly rng: Rng;
  /** How long everything may take, once nobody does harm any longer. */
  readonly patienceMs: number;
}

const EVENTS = ['job.queued', 'job.started', 'job.succeeded', 'job.failed', 'job.expired'];
const deadLettersSchema = z.object({
  data: z.array(z.object({ webhook_id: z.string() })),
  next_after: z.string().nullable(),
  has_more: z.boolean(),
});
const POLL_MS = 250;
const BETWEEN_JOBS_MS = [50, 400] as const;

/** What became of all that was submitted, as a report counts it. */
export interface JobsReport {
  readonly jobs: number;
  readonly jobs_terminal: number;
  readonly jobs_differing: number;
  readonly notices: number;
  readonly notices_delivered: number;
  readonly notices_dead: number;
  readonly notices_missing: number;
  /** Given up though their receiver would have taken them. */
  readonly notices_dead_wrongly: number;
  /** Taken more than once, under the id they had. */
  readonly notices_repeated: number;
  /** Two ids for one event of a job; or an event nobody expects. */
  readonly notices_renamed: number;
  readonly notices_unverified: number;
  readonly notices_misled: number;
}

/**
 * Jobs with webhooks: submitted while the adversary does its work, and accounted for afterwards.
 */
export class ChaosJobs {
  readonly #options: JobsOptions;
  readonly #submitted: Submitted[] = [];

  constructor(options: JobsOptions) {
    this.#options = options;
  }

  get numSubmitted(): number {
    return this.#submitted.length;
  }

  /** Submits some of these, few at a time, so that they last for most of the run. */
  async submit(expected: readonly ExpectedJob[], count: number): Promise<void> {
    const { rng } = this.#options;
    const jobs = Array.from({ length: count }, () => pickFrom(rng, expected));
    await inParallel(2, jobs, async (job) => {
      await this.#submit(job);
      await pause(integerFrom(rng, ...BETWEEN_JOBS_MS));
    });
  }

  /** Submits one, again and again under one key until it is accepted. */
  async #submit({ request, answer }: ExpectedJob): Promise<void> {
    const { rng, receivers } = this.#options;
    const conduct = pickFrom(rng, CONDUCTS);
    const { stream: _, stream_options: __, on_disconnect: ___, ...body } = request.body;
    const webhook = { url: receivers.urlOf(conduct), events: EVENTS, secret: receivers.secret };
    const job = await this.#options.api.post('/v1/jobs', { endpoint: request.path, body, webhook });
    this.#submitted.push({ id: String(job.id), request, answer, conduct });
  }

  /**
   * Waits until every job has ended and every notice is taken or given up, or until patience is.
   */
  async account(): Promise<JobsReport> {
    const deadlineMs = performance.now() + this.#options.patienceMs;
    const ended = new Map<string, Ended>();
    let dead = new Set<string>();
    for (;;) {
      for (const { id } of this.#submitted.filter((job) => !ended.has(job.id))) {
        const end = await this.#endOf(id);
        if (end !== null) ended.set(id, end);
      }
      dead = await this.#deadLetters();
      const isComplete = this.#missing(dead).length === 0 && ended.size === this.numSubmitted;
      if (isComplete || performance.now() > deadlineMs) return this.#report(ended, dead);
      await pause(POLL_MS);
    }
  }

  #report(ended: ReadonlyMap<string, Ended>, dead: ReadonlySet<string>): JobsReport {
    const { taken, numUnverified, numMisled } = this.#options.receivers;
    const takenIds = new Set(taken.map(({ webhookId }) => webhookId));
    const expected = new Set(this.#submitted.flatMap(webhookIdsOf));
    const idsByEvent = new Map<string, Set<string>>();
    for (const { jobId, type, webhookId } of taken) {
      const event = `${jobId} ${type}`;
      idsByEvent.set(event, (idsByEvent.get(event) ?? new Set()).add(webhookId));
    }
    const renamed = [...idsByEvent.values()].reduce((sum, { size }) => sum + size - 1, 0);
    const unexpected = [...takenIds].filter((id) => !expected.has(id)).length;
    const reliable = this.#submitted.filter(({ conduct }) => isReliable(conduct));
    const missing = this.#missing(dead);
    for (const id of missing) console.log(`missing: ${id}`);
    for (const job of this.#submitted) this.#explain(job, ended.get(job.id));
    return {
      jobs: this.numSubmitted,
      jobs_terminal: ended.size,
      jobs_differing: this.#submitted.filter((job) => isDiffering(job, ended.get(job.id))).length,
      notices: expected.size,
      notices_delivered: takenIds.size,
      notices_dead: [...dead].filter((id) => !takenIds.has(id)).length,
      notices_missing: missing.length,
      notices_dead_wrongly: reliable.flatMap(webhookIdsOf).filter((id) => dead.has(id)).length,
      notices_repeated: taken.length - takenIds.size,
      notices_renamed: renamed + unexpected,
      notices_unverified: numUnverified,
      notices_misled: numMisled,
    };
  }

  #explain(job: Submitted, end: Ended | undefined): void {
    if (end === undefined) console.log(`not ended: ${job.id}`);
    else if (isDiffering(job, end)) {
      const { path, body } = job.request;
      console.log(`differs: ${path} ${JSON.stringify(body)}`);
      console.log(`  ${JSON.stringify(job.answer)}\n  ${JSON.stringify(end.answer)}`);
    }
  }

  #missing(dead: ReadonlySet<string>): string[] {
    const taken = new Set(this.#options.receivers.taken.map(({ webhookId }) => webhookId));
    return this.#submitted.flatMap(webhookIdsOf).filter((id) => !taken.has(id) && !dead.has(id));
  }

  async #endOf(id: string): Promise<Ended | null> {
    const job = await this.#options.api.json(`/v1/jobs/${id}`);
    if (job.ended_at === null || job.ended_at === undefined) return null;
    const { status, result } = job;
    return { status: String(status), answer: result ? answerOfBody(result) : null };
  }

  async #deadLetters(): Promise<Set<string>> {
    const dead = new Set<string>();
    for (let after = ''; ; ) {
      const query = after === '' ? '?limit=100' : `?limit=100&after=${after}`;
      const page = await this.#options.api.json(`/v1/dead_letters${query}`);
      const { data, next_after: nextAfter, has_more: hasMore } = deadLettersSchema.parse(page);
      for (const { webhook_id: id } of data) dead.add(id);
      if (!hasMore) return dead;
      after = nextAfter ?? '';
    }
  }
}

/** Nothing missing, nothing under two names, nothing that a receiver could not verify. */
export function isAccounted(report: JobsReport): boolean {
  const numFaults =
    report.jobs_differing +
    report.notices_missing +
    report.notices_dead_wrongly +
    report.notices_renamed +
    report.notices_unverified +
    report.notices_misled;
  return numFaults === 0 && report.jobs_terminal === report.jobs;
}

/** Queued, started, ended: no more and no less. */
function webhookIdsOf({ id }: Submitted): string[] {
  return [0, 1, 2].map((n) => `msg_${id}_${n}`);
}

function isDiffering({ answer }: Submitted, end: Ended | undefined): boolean {
  if (end === undefined) return false;
  return end.status !== 'succeeded' || end.answer === null || !isSame(end.answer, answer);
}
