import { parentPort } from 'node:worker_threads';
import { invariant } from '../shared/assert.ts';
import { createTokenizer, type Tokenizer } from '../shared/tokenizer.ts';
import { encodeUpTo } from './encoder.ts';
import type { EncodeAnswer, EncoderCall } from './node-encoder.ts';

const tokenizers = new Map<number, Tokenizer>();

async function answer(call: Extract<EncoderCall, { type: 'encode' }>): Promise<EncodeAnswer> {
  const { id, text, options } = call;
  try {
    const tokenizer = tokenizers.get(call.encoder);
    invariant(tokenizer !== undefined, `encoder ${call.encoder} is not open`);
    const tokenIds = await encodeUpTo(text, options, tokenizer);
    return { type: 'encoded', id, tokenIds: tokenIds && Uint32Array.from(tokenIds) };
  } catch (error) {
    return { type: 'failed', id, error }; // of one text; the others' go on
  }
}

parentPort?.on('message', async (call: EncoderCall) => {
  switch (call.type) {
    case 'open':
      tokenizers.set(call.encoder, createTokenizer(call.files));
      break;
    case 'encode':
      parentPort?.postMessage(await answer(call));
      break;
    case 'close':
      tokenizers.delete(call.encoder);
  }
});
