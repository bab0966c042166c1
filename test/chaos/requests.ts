import { readFileSync } from 'node:fs';
import { integerFrom, pickFrom, type Rng } from '../support/random.ts';

/**
 * How a client goes about its request: sees it through; cancels it, or lets a deadline end it,
 * somewhere on its way; asks for a text without end and cancels that; or goes away for good.
 */
export type Manner = 'whole' | 'cancel' | 'deadline' | 'endless' | 'leave';

/** What is asked for. */
export interface ChaosRequest {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A request, and how its clients may behave. */
export interface Case {
  readonly request: ChaosRequest;
  readonly manners: readonly Manner[];
}

const openings: string[] = JSON.parse(
  readFileSync(new URL('../fixtures/prompts.json', import.meta.url), 'utf8'),
);

/** Long enough that a text without end, of which this is the begin, changes hands meanwhile. */
const ENDLESS_TOKENS = 2500;

/** A request with a mix of options that its bytes must not depend on dying machines for. */
export function randomCase(rng: Rng): Case {
  const isEndless = rng() < 0.1;
  const stream = isEndless || rng() < 0.75;
  const isSliding = isEndless || rng() < 0.3;
  const manners: Manner[] = ['whole', 'whole', 'whole', 'whole', 'whole', 'deadline'];
  const isPatient = rng() < 0.5; // goes on without a reader
  if (stream) manners.push('cancel');
  if (stream && !isPatient) manners.push('leave');
  const body = {
    model: 'stories-target',
    ...samplingOf(rng),
    on_disconnect: isPatient ? 'continue' : 'cancel',
    ...(isSliding ? { context_policy: 'sinks', window_tokens: pickFrom(rng, [8, 30, 120]) } : {}),
    ...(stream ? { stream, stream_options: { include_usage: true } } : {}),
    ...(isEndless
      ? { ignore_eos: true, stop: [], n: 1, max_tokens: ENDLESS_TOKENS }
      : { max_tokens: integerFrom(rng, 40, 360) }),
  };
  return {
    request: rng() < 0.3 ? toChat(rng, body) : toCompletion(rng, body, isSliding),
    manners: isEndless ? ['endless', 'endless', 'whole'] : manners,
  };
}

function samplingOf(rng: Rng): Record<string, unknown> {
  return {
    seed: integerFrom(rng, 0, 2 ** 31),
    temperature: pickFrom(rng, [0, 0.7, 1, 1.3]),
    ignore_eos: rng() < 0.7,
    ...(rng() < 0.3 ? { top_p: 0.9 } : {}),
    ...(rng() < 0.2 ? { min_p: 0.05 } : {}),
    ...(rng() < 0.3 ? { frequency_penalty: 0.5, presence_penalty: 0.2 } : {}),
    ...(rng() < 0.2 ? { repetition_penalty: 1.2 } : {}),
    ...(rng() < 0.3
      ? { stop: [pickFrom(rng, ['happily ever', '."', 'mom said', 'The end'])] }
      : {}),
    ...(rng() < 0.3 ? { n: 2 } : {}),
    ...(rng() < 0.2 ? { speculation: 'off' } : {}),
  };
}

function toChat(rng: Rng, body: Record<string, unknown>): ChaosRequest {
  const messages = [{ role: 'user', content: pickFrom(rng, openings) }];
  const logprobs = rng() < 0.3 ? { logprobs: true, top_logprobs: 2 } : {};
  return { path: '/v1/chat/completions', body: { ...body, ...logprobs, messages } };
}

function toCompletion(rng: Rng, body: Record<string, unknown>, isSliding: boolean): ChaosRequest {
  const logprobs = rng() < 0.3 && !isSliding ? { logprobs: 2 } : {};
  const echo = rng() < 0.2 && !isSliding ? { echo: true } : {};
  const prompt = pickFrom(rng, openings);
  return { path: '/v1/completions', body: { ...body, ...logprobs, ...echo, prompt } };
}
