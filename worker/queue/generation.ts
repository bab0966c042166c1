import type { RequestId, TokenId } from '../../shared/ids.ts';
import type {
  EchoEvent,
  ErrorEvent,
  FinishReason,
  ProposerStats,
  TokensEvent,
  Usage,
} from '../../shared/protocol/event.ts';
import type { Job } from '../../shared/protocol/job.ts';

/** How far a choice had come when its request was last interrupted. */
export interface PublishedChoice {
  /** Output tokens already in the log, in order. */
  readonly tokenIds: readonly TokenId[];
  /** Characters (UTF-16 units) of output text already in the log. */
  readonly textLength: number;
  readonly hasEcho: boolean;
  /** Not `null` when the choice is complete. */
  readonly finishReason: FinishReason | null;
}

export interface GenerationEnd {
  readonly type: 'end';
  readonly usage: Usage;
  readonly timings: { readonly prefillMs: number; readonly decodeMs: number };
  readonly speculation: readonly ProposerStats[];
}

/** What the engine says about one request; `end` or `error` comes last, also after a cancel. */
export type GenerationEvent = EchoEvent | TokensEvent | GenerationEnd | ErrorEvent;

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
