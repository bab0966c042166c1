import type { RequestEvent, TokensEvent } from './event.ts';
import type { DueEvent, GenerationEnd } from './generation.ts';

type Event = RequestEvent | DueEvent | GenerationEnd;

/**
 * Adds `events` to those that wait to be written: tokens join the last waiting tokens of their
 * choice, so that what waits stays short however long it waits.
 *
 * With [choice 0 "a", choice 1 "b"] waiting, choice 0 "c" makes [choice 0 "ac", choice 1 "b"].
 */
export function mergeEvents(waiting: Event[], events: readonly Event[]): void {
  for (const event of events) {
    const index = event.type === 'tokens' ? lastTokensOf(waiting, event.choice) : -1;
    const previous = waiting[index];
    if (event.type === 'tokens' && previous?.type === 'tokens') {
      waiting[index] = mergeTokens(previous, event);
    } else waiting.push(event);
  }
}

/** @returns -1 when the choice has no tokens waiting */
function lastTokensOf(waiting: readonly Event[], choice: number): number {
  return waiting.findLastIndex((event) => event.type === 'tokens' && event.choice === choice);
}

function mergeTokens(first: TokensEvent, second: TokensEvent): TokensEvent {
  return {
    ...first,
    tokenIds: [...first.tokenIds, ...second.tokenIds],
    text: first.text + second.text,
    logprobs: first.logprobs && second.logprobs && [...first.logprobs, ...second.logprobs],
    finishReason: second.finishReason,
  };
}
