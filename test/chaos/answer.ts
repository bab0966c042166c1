/** One event of a stream as a client reads it. */
export interface Frame {
  readonly id: string | null;
  readonly data: string;
}

/** What an answer says of one choice, however it was cut into frames. */
interface ChoiceAnswer {
  readonly text: string;
  readonly logprobs: readonly unknown[];
  readonly finishReason: string | null;
}

/** What is compared byte for byte. */
export interface Answer {
  readonly choices: readonly ChoiceAnswer[];
  readonly usage: { readonly prompt: number; readonly completion: number } | null;
  /** Of the body, and of every chunk. */
  readonly seed: number | null;
}

// biome-ignore lint/suspicious/noExplicitAny: whatever JSON a server sent
type Json = any;

/**
 * Joins what the frames of a stream say of each choice.
 *
 * @throws {Error} when its frames do not belong together
 */
export function answerOfFrames(frames: readonly Frame[]): Answer {
  const choices: Json[] = [];
  let usage: Json = null;
  let head: Json = null;
  for (const { data } of frames) {
    if (data === '[DONE]') continue;
    const chunk: Json = JSON.parse(data);
    head ??= chunk;
    if (chunk.id !== head.id || chunk.seed !== head.seed) throw new Error('chunks of two answers');
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      choices[choice.index] ??= { text: '', logprobs: [], finishReason: null };
      const joined = choices[choice.index];
      joined.text += choice.text ?? choice.delta?.content ?? '';
      joined.logprobs.push(...logprobsOf(choice.logprobs));
      joined.finishReason = choice.finish_reason ?? joined.finishReason;
    }
  }
  return { choices, usage: usageOf(usage), seed: head?.seed ?? null };
}

export function answerOfBody(body: Json): Answer {
  const choices = body.choices.map((choice: Json) => ({
    text: choice.text ?? choice.message?.content ?? '',
    logprobs: logprobsOf(choice.logprobs),
    finishReason: choice.finish_reason,
  }));
  return { choices, usage: usageOf(body.usage), seed: body.seed };
}

/** Of a chat token by token; of a completion its parallel arrays, regrouped. */
function logprobsOf(logprobs: Json): Json[] {
  if (!logprobs) return [];
  if (logprobs.content !== undefined) return logprobs.content ?? [];
  return logprobs.tokens.map((token: string, i: number) => ({
    token,
    logprob: logprobs.token_logprobs[i],
    top: logprobs.top_logprobs?.[i] ?? null,
    offset: logprobs.text_offset[i],
  }));
}

/** What was drafted depends on timing; what was generated does not. */
function usageOf(usage: Json): Json {
  return usage && { prompt: usage.prompt_tokens, completion: usage.completion_tokens };
}

export function isSame(answer: Answer, whole: Answer): boolean {
  return JSON.stringify(answer) === JSON.stringify(whole);
}

/**
 * Whether an answer that was cut short says nothing else than the whole one, or, where that ended
 * earlier, goes on from it.
 */
export function isCutFrom(answer: Answer, whole: Answer): boolean {
  return answer.choices.every(({ text, logprobs, finishReason }, i) => {
    const other = whole.choices[i];
    if (other === undefined) return false;
    if (finishReason === 'stop' && finishReason !== other.finishReason) return false;
    const numLogprobs = Math.min(logprobs.length, other.logprobs.length);
    const begin = (all: readonly unknown[]) => JSON.stringify(all.slice(0, numLogprobs));
    const isBegin = text.startsWith(other.text) || other.text.startsWith(text);
    return isBegin && begin(logprobs) === begin(other.logprobs);
  });
}
