/** One event of a stream as a client reads it. */
export interface Frame {
  readonly id: string | null;
  readonly data: string;
}

/** What an answer says, however it was cut into frames: this is compared byte for byte. */
export type Answer = string;

// biome-ignore lint/suspicious/noExplicitAny: whatever JSON a server sent
type Json = any;

/** Joins what the frames of a stream say of each choice. */
export function answerOfFrames(frames: readonly Frame[]): Answer {
  const choices: Json[] = [];
  let usage: Json = null;
  for (const { data } of frames) {
    if (data === '[DONE]') continue;
    const chunk: Json = JSON.parse(data);
    if (chunk.error !== undefined) return JSON.stringify(chunk);
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      choices[choice.index] ??= { text: '', logprobs: [], finishReason: null };
      const joined = choices[choice.index];
      joined.text += choice.text ?? choice.delta?.content ?? '';
      joined.logprobs.push(...logprobsOf(choice.logprobs));
      joined.finishReason = choice.finish_reason ?? joined.finishReason;
    }
  }
  return JSON.stringify({ choices, usage: usageOf(usage) });
}

export function answerOfBody(body: Json): Answer {
  if (body.error !== undefined) return JSON.stringify(body);
  const choices = body.choices.map((choice: Json) => ({
    text: choice.text ?? choice.message?.content ?? '',
    logprobs: logprobsOf(choice.logprobs),
    finishReason: choice.finish_reason,
  }));
  return JSON.stringify({ choices, usage: usageOf(body.usage) });
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
