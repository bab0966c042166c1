import {
  type EchoEvent,
  isTerminal,
  type RequestEvent,
  type TokensEvent,
} from '../../shared/protocol/event.ts';

/** How far a choice has come. */
interface Progress {
  numTokens: number;
  /** In characters (UTF-16 units). */
  textLength: number;
  hasEcho: boolean;
  hasEnded: boolean;
}

const NOTHING: Progress = { numTokens: 0, textLength: 0, hasEcho: false, hasEnded: false };

/**
 * What a reader was given of each choice of a request. Where Redis has lost events, their tokens
 * are written again, in events that may begin and end elsewhere; of those the reader is given what
 * it did not have.
 */
export class GivenEvents {
  readonly #given = new Map<number, Progress>();
  /** As far as the log was read since it was begun; behind what was given after `startAgain`. */
  readonly #read = new Map<number, Progress>();

  /** The log is read from its beginning once more. */
  startAgain(): void {
    this.#read.clear();
  }

  /**
   * What of the log's next event is new; `null` for nothing.
   *
   * With " a dog" given, " a" (passed over) and " dog ran" (" ran") are written again.
   */
  take(event: RequestEvent): RequestEvent | null {
    if (isTerminal(event)) return event;
    const given = progressOf(this.#given, event.choice);
    const read = progressOf(this.#read, event.choice);
    const fresh = event.type === 'echo' ? freshEcho(event, given) : freshTokens(event, given, read);
    advance(read, event);
    if (fresh !== null) advance(given, fresh);
    return fresh;
  }
}

function progressOf(progress: Map<number, Progress>, choice: number): Progress {
  const known = progress.get(choice);
  if (known !== undefined) return known;
  const nothing = { ...NOTHING };
  progress.set(choice, nothing);
  return nothing;
}

function freshEcho(event: EchoEvent, given: Progress): EchoEvent | null {
  return given.hasEcho ? null : event;
}

function freshTokens(event: TokensEvent, given: Progress, read: Progress): TokensEvent | null {
  const { tokenIds, text, logprobs, finishReason } = event;
  const numOld = given.numTokens - read.numTokens;
  const oldLength = given.textLength - read.textLength;
  if (numOld === 0 && oldLength === 0) return given.hasEnded ? null : event;
  const rest = {
    ...event,
    tokenIds: tokenIds.slice(numOld),
    text: text.slice(oldLength),
    logprobs: logprobs?.slice(numOld) ?? null,
  };
  const isEnd = finishReason !== null && !given.hasEnded;
  return rest.tokenIds.length === 0 && rest.text === '' && !isEnd ? null : rest;
}

function advance(progress: Progress, event: EchoEvent | TokensEvent): void {
  if (event.type === 'echo') {
    progress.hasEcho = true;
    return;
  }
  progress.numTokens += event.tokenIds.length;
  progress.textLength += event.text.length;
  progress.hasEnded ||= event.finishReason !== null;
}
