import { setImmediate } from 'node:timers/promises';
import type { TokenId } from '../../shared/ids.ts';
import type { FinishReason, RequestEvent, TokenLogprobs } from '../../shared/protocol/event.ts';
import { choiceSeed, type Job, numChoices } from '../../shared/protocol/job.ts';
import { createTokenizer } from '../../shared/tokenizer.ts';
import { doneOf, type Play } from './fake-transport.ts';
import { storiesFiles } from './stories.ts';

const tokenizer = createTokenizer(storiesFiles);

const LINE = ' One day, a little girl named Lily went to the park with her dog and saw a big tree.';
const lineIds = tokenizer.encode(LINE, { addSpecialTokens: false });

/** Longest answer when the request sets no limit. */
const MAX_TOKENS = 4000;

/**
 * A worker without a model: answers each choice with one sentence over and over, begun at a place
 * that the choice's seed decides. Honors max_tokens, stop, logprobs, echo, and cancels between two
 * tokens.
 */
export const tellStory: Play = async (job, append, signal) => {
  const told = Array.from({ length: numChoices(job) }, (_, choice) => tell(job, choice));
  if (job.echo) for (const choice of told.keys()) append(echoOf(job, choice));

  let completionTokens = 0;
  const running = new Set(told.keys());
  for (let step = 0; running.size > 0; step += 1) {
    await setImmediate();
    for (const choice of running) {
      const piece = signal.aborted ? CANCELLED : (told[choice]?.[step] ?? CANCELLED);
      const logprobs = job.topLogprobs === null ? null : piece.tokenIds.map(toLogprobs);
      append({ type: 'tokens', choice, ...piece, logprobs });
      completionTokens += piece.tokenIds.length;
      if (piece.finishReason !== null) running.delete(choice);
    }
  }
  const promptTokens = job.prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  append(doneOf({ promptTokens, completionTokens }));
};

function echoOf(job: Job, choice: number): RequestEvent {
  const promptIds = job.prompts[Math.floor(choice / job.n)] ?? [];
  const logprobs = job.topLogprobs === null ? null : promptIds.map(toLogprobs);
  return { type: 'echo', choice, text: tokenizer.decode(promptIds), logprobs };
}

interface Piece {
  readonly tokenIds: TokenId[];
  readonly text: string;
  readonly finishReason: FinishReason | null;
}

const CANCELLED: Piece = { tokenIds: [], text: '', finishReason: 'cancelled' };

/** All of one choice, token by token, without what a stop string takes back. */
function tell(job: Job, choice: number): Piece[] {
  const start = choiceSeed(job.sampling.seed, choice) % lineIds.length;
  const maxTokens = job.maxTokens ?? MAX_TOKENS;
  const tokenIds: TokenId[] = [];
  const ends: number[] = []; // of each token's text
  let text = '';
  let end = Number.POSITIVE_INFINITY;
  while (tokenIds.length < maxTokens && end === Number.POSITIVE_INFINITY) {
    const tokenId = lineIds[(start + tokenIds.length) % lineIds.length]!;
    tokenIds.push(tokenId);
    text += tokenizer.tokenText(tokenId);
    ends.push(text.length);
    end = Math.min(...job.stop.map((stop) => text.indexOf(stop)).filter((at) => at >= 0));
  }
  const lastReason = end === Number.POSITIVE_INFINITY ? 'length' : 'stop';
  return tokenIds.map((tokenId, i) => ({
    tokenIds: [tokenId],
    text: text.slice(Math.min(ends[i - 1] ?? 0, end), Math.min(ends[i] ?? 0, end)),
    finishReason: i === tokenIds.length - 1 ? lastReason : null,
  }));
}

/**
 * Made-up numbers: the chosen token at one half, the others each half as likely as the one before.
 */
function toLogprobs(id: TokenId): TokenLogprobs {
  const describe = (tokenId: TokenId, rank: number) => ({
    id: tokenId,
    text: tokenizer.tokenText(tokenId),
    bytes: [...(tokenizer.tokenBytes(tokenId) ?? [])],
    logprob: -Math.LN2 * (rank + 1),
  });
  const top = Array.from({ length: 20 }, (_, rank) => describe(rank === 0 ? id : 100 + rank, rank));
  return { ...describe(id, 0), top };
}
