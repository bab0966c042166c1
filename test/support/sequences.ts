import { createRequestId, type RequestId, toTenantId } from '../../shared/ids.ts';
import { OutputText } from '../../worker/engine/output-text.ts';
import { Sequence, type SequenceOptions } from '../../worker/engine/sequence.ts';
import { PLAIN_PARAMS } from './plain-sampling.ts';
import { tinyTokenBytes } from './tiny-tokens.ts';

/** A greedy sequence with a prompt of so many tokens, all of them 3. */
export function sequenceOf(numPromptTokens: number, options: Partial<SequenceOptions> = {}) {
  return new Sequence({
    requestId: options.requestId ?? createRequestId(),
    tenant: toTenantId('default'),
    choice: 0,
    priority: 1000,
    class: 'interactive',
    isUnbounded: false,
    isStream: true,
    promptTokenIds: Array<number>(numPromptTokens).fill(3),
    publishedTokenIds: [],
    numTrimmed: 0,
    contextPolicy: { type: 'stop' },
    sampling: { ...PLAIN_PARAMS, temperature: 0 },
    canSpeculate: false,
    prediction: [],
    maxOutputTokens: Infinity,
    minOutputTokens: 0,
    endTokenIds: new Set(),
    topLogprobs: null,
    wantsPromptLogprobs: false,
    text: new OutputText(tinyTokenBytes, []),
    ...options,
  });
}

/** Request ids for names, so that a plan can be read. */
export class Names {
  readonly #nameById = new Map<RequestId, string>();

  sequence(
    numPromptTokens: number,
    name: string,
    options: Partial<SequenceOptions> = {},
  ): Sequence {
    const sequence = sequenceOf(numPromptTokens, options);
    this.#nameById.set(sequence.requestId, name);
    return sequence;
  }

  of({ requestId }: Sequence): string {
    return this.#nameById.get(requestId) ?? requestId;
  }
}
