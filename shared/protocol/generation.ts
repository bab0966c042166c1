import type { CharacterCount } from '../characters.ts';
import type { TokenId } from '../ids.ts';
import type {
  EchoEvent,
  ErrorEvent,
  FinishReason,
  ProposerStats,
  TokensEvent,
  Usage,
} from './event.ts';

/** How far a choice had come when its request was last interrupted. */
export interface PublishedChoice {
  /**
   * Output tokens that the log holds, in order: all of them, or the last `tokensToResume` at least.
   */
  readonly tokenIds: readonly TokenId[];
  /** Output tokens before them, which it held once. */
  readonly numTrimmed?: number;
  /** Characters (UTF-16 units) of output text already in the log. */
  readonly textLength: number;
  readonly hasEcho: boolean;
  /** Of its tokens' text, where chunks say how far that has come; absent where nobody counted. */
  readonly characters?: CharacterCount | undefined;
  /** Not `null` when the choice is complete. */
  readonly finishReason: FinishReason | null;
}

export const NOTHING_PUBLISHED: PublishedChoice = {
  tokenIds: [],
  textLength: 0,
  hasEcho: false,
  finishReason: null,
};

export interface GenerationEnd {
  readonly type: 'end';
  readonly usage: Usage;
  readonly timings: { readonly prefillMs: number; readonly decodeMs: number };
  readonly speculation: readonly ProposerStats[];
}

/** A held request's turn has come: it is read as soon as it is told to proceed. */
export interface DueEvent {
  readonly type: 'due';
}

/** What the engine says about one request; `end` or `error` comes last, also after a cancel. */
export type GenerationEvent = EchoEvent | TokensEvent | DueEvent | GenerationEnd | ErrorEvent;

/** Where and how a request is begun. */
export interface Beginning {
  readonly choices: readonly PublishedChoice[]; // [numChoices]
  /** Whether it says when it is `due`, and is not read before it is told to proceed. */
  readonly isHeld?: boolean;
}

/** Whether nothing follows the event. */
export function isLast(event: GenerationEvent): boolean {
  return event.type === 'end' || event.type === 'error';
}
