import { lastEventsOf, type Standing } from '../../shared/protocol/cancelled.ts';
import { encodeEvent } from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';
import type { CancelReason } from '../../shared/protocol/request-scripts.ts';
import type { RunContext } from './request-run.ts';

/** Where an endless request stood when it was given back. */
export interface LeftStanding extends Standing {
  /** That nobody writes under, until somebody claims the request. */
  readonly epoch: number;
  readonly nextSeq: number;
}

/** An endless request that waits in the queue again, as its last worker left it. */
export class LeftRequest {
  readonly #context: Pick<RunContext, 'scripts' | 'log'>;
  readonly #job: Job;
  readonly #standing: LeftStanding;

  constructor(context: Pick<RunContext, 'scripts' | 'log'>, job: Job, standing: LeftStanding) {
    this.#context = context;
    this.#job = job;
    this.#standing = standing;
  }

  get deadlineMs(): number | null {
    return this.#job.deadlineMs;
  }

  /**
   * Ends it, if nobody has claimed it since: with one script, and without the lock of its job. What
   * a stop string held back of its text is not shown.
   */
  async end(reason: CancelReason): Promise<void> {
    const { scripts, log } = this.#context;
    const { epoch, nextSeq } = this.#standing;
    const { id } = this.#job;
    const { type } = await scripts.finish(id, {
      epoch,
      firstSeq: nextSeq,
      payloads: lastEventsOf(this.#job, reason, this.#standing).map(encodeEvent),
      status: reason === 'deadline' ? 'expired' : 'cancelled',
    });
    log.info('request_left', { id, epoch, end: type === 'ok' ? 'finished' : type });
  }
}
