import type { RequestId } from '../../shared/ids.ts';
import type { GenerationEvent, PublishedChoice } from '../../shared/protocol/generation.ts';
import type { Job } from '../../shared/protocol/job.ts';

export type {
  GenerationEnd,
  GenerationEvent,
  PublishedChoice,
} from '../../shared/protocol/generation.ts';

/** What the queue wants of the engine. */
export interface Generator {
  /**
   * Generates every choice of the job from where `published` left it; choices appear in any order.
   *
   * @param published [numChoices]
   * @param listener called synchronously, in order, once per step that has news of this request
   */
  start(
    job: Job,
    published: readonly PublishedChoice[],
    listener: (events: readonly GenerationEvent[]) => void,
  ): void;

  /** Ends the request within one step with finish reason `reason`; unknown ids are ignored. */
  cancel(id: RequestId, reason: 'cancelled' | 'deadline'): void;

  /** Drops the request within one step, without a further event: somebody else goes on with it. */
  release(id: RequestId): Promise<void>;
}
