import type { RequestId } from '../../shared/ids.ts';
import type { Beginning, GenerationEvent } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';

export type {
  Beginning,
  GenerationEnd,
  GenerationEvent,
  PublishedChoice,
} from '../../shared/protocol/generation.ts';

/** What the queue wants of the engine. */
export interface Generator {
  /**
   * Generates every choice of the job from where its beginning leaves it; choices appear in any
   * order.
   *
   * @param listener called synchronously, in order, once per step that has news of this request
   */
  start(
    job: Job,
    beginning: Beginning,
    listener: (events: readonly GenerationEvent[]) => void,
  ): void;

  /** Lets a held request be read; unknown ids are ignored. */
  proceed(id: RequestId): void;

  /** Ends the request within one step with finish reason `reason`; unknown ids are ignored. */
  cancel(id: RequestId, reason: 'cancelled' | 'deadline'): void;

  /** Drops the request within one step, without a further event: somebody else goes on with it. */
  release(id: RequestId): Promise<void>;
}
