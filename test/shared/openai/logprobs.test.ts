import { describe, expect, it } from 'vitest';
import { countCharacters, NO_CHARACTERS } from '../../../shared/characters.ts';
import { CompletionLogprobsEncoder, toChatLogprobs } from '../../../shared/openai/logprobs.ts';
import type { TokenLogprobs, TokenText } from '../../../shared/protocol/event.ts';

function token(bytes: Uint8Array | readonly number[], logprob: number | null = -1): TokenText {
  return {
    id: 5,
    text: new TextDecoder().decode(Uint8Array.from(bytes)),
    bytes: [...bytes],
    logprob,
  };
}

const utf8 = (text: string) => new TextEncoder().encode(text);
const alone = (chosen: TokenText): TokenLogprobs => ({ ...chosen, top: [] });

describe('CompletionLogprobsEncoder', () => {
  it('counts characters, not bytes nor halves, over all that it is given', () => {
    const encoder = new CompletionLogprobsEncoder();
    const dragon = utf8('🐉');
    const first = encoder.encode(
      [utf8('né'), dragon.slice(0, 2), dragon.slice(2)].map((bytes) => alone(token(bytes))),
    );
    const second = encoder.encode([utf8('!'), utf8('?')].map((bytes) => alone(token(bytes))));

    expect(first.tokens).toEqual(['né', 'bytes:\\xf0\\x9f', 'bytes:\\x90\\x89']);
    expect(first.text_offset).toEqual([0, 2, 2]);
    expect(second.text_offset).toEqual([3, 4]);
  });

  it('counts on from where it is told', () => {
    const [first, ...rest] = [utf8('né'), utf8('🐉').slice(0, 3), utf8('🐉').slice(3), utf8('!')];
    const tokens = rest.map((bytes) => alone(token(bytes)));
    const whole = new CompletionLogprobsEncoder();
    whole.encode([alone(token(first!))]);
    const resumed = new CompletionLogprobsEncoder(countCharacters(NO_CHARACTERS, [...first!]));

    expect(resumed.encode(tokens)).toEqual(whole.encode(tokens));
  });

  it('gives a special token, which has no bytes, no room', () => {
    const begin = { ...alone(token([], null)), text: '<s>' };
    const { tokens, token_logprobs, top_logprobs, text_offset } =
      new CompletionLogprobsEncoder().encode([begin, alone(token(utf8('a')))]);

    expect(tokens).toEqual(['<s>', 'a']);
    expect(token_logprobs).toEqual([null, -1]);
    expect(top_logprobs).toEqual([null, { a: -1 }]);
    expect(text_offset).toEqual([0, 0]);
  });

  it('adds the chosen token to the likeliest ones', () => {
    const chosen = { ...token(utf8('c'), -3), top: [token(utf8('a'), -0.5), token(utf8('b'), -1)] };
    const { top_logprobs } = new CompletionLogprobsEncoder().encode([chosen]);
    expect(top_logprobs).toEqual([{ a: -0.5, b: -1, c: -3 }]);
  });
});

describe('toChatLogprobs', () => {
  it('describes each token with as many alternatives as asked for', () => {
    const chosen = { ...token(utf8('c'), -3), top: [token(utf8('a'), -0.5), token(utf8('b'), -1)] };
    expect(toChatLogprobs([chosen], 1)).toEqual({
      content: [
        {
          token: 'c',
          logprob: -3,
          bytes: [99],
          top_logprobs: [{ token: 'a', logprob: -0.5, bytes: [97] }],
        },
      ],
      refusal: null,
    });
  });
});
