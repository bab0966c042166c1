import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { describe, expect, it } from 'vitest';
import { createTokenizer, TokenizerError } from '../../shared/tokenizer.ts';
import { storiesFiles } from '../support/stories.ts';

const begin = { addSpecialTokens: true };
const plain = { addSpecialTokens: false };

/** A Llama-like tokenizer with a space mark and bytes, small enough to read. */
function sentencePieceFiles(decoder: unknown) {
  const pieces = ['<s>', '<0xE2>', '<0x82>', '<0xAC>', '▁', 'a', 'b', '▁a', 'ab', '▁ab'];
  const merges = ['▁ a', 'a b', '▁a b'];
  const json = {
    added_tokens: [{ id: 0, content: '<s>', special: true, normalized: false }],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder,
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges,
      byte_fallback: true,
      fuse_unk: true,
    },
  };
  return { tokenizerJson: JSON.stringify(json), tokenizerConfigJson: '{}' };
}

const sentencePieceDecoder = {
  type: 'Sequence',
  decoders: [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    { type: 'Strip', content: ' ', start: 1, stop: 0 },
  ],
};

describe('createTokenizer', () => {
  const tokenizer = createTokenizer(storiesFiles);
  const text = 'Once upon a time, naïve Zoë saw 漢字 and a 🐉.\n\tThe end\u00a0\u00ad!';

  it('puts the begin token in front only when asked to', () => {
    expect(tokenizer.encode('Once', begin)).toEqual([0, 416]);
    expect(tokenizer.encode('Once', plain)).toEqual([416]);
    expect(tokenizer.encode('', begin)).toEqual([0]);
    expect(tokenizer.encode('', plain)).toEqual([]);
  });

  it('gives back any text from its tokens, and from their bytes', () => {
    const tokenIds = tokenizer.encode(text, plain);
    const bytes = tokenIds.flatMap((id) => [...(tokenizer.tokenBytes(id) ?? [])]);

    expect(tokenizer.decode(tokenIds)).toBe(text);
    expect(new TextDecoder().decode(Uint8Array.from(bytes))).toBe(text);
  });

  it('decodes every token of the vocabulary as the library does', () => {
    const library = new HuggingFaceTokenizer(
      JSON.parse(storiesFiles.tokenizerJson),
      JSON.parse(storiesFiles.tokenizerConfigJson),
    );
    expect(tokenizer.vocabSize).toBe(2048);
    for (let id = 3; id < tokenizer.vocabSize; id += 1) {
      expect(tokenizer.tokenText(id)).toBe(library.decode([id]));
    }
  });

  it('has no bytes for special and unknown tokens, and leaves them out of texts', () => {
    expect(tokenizer.tokenBytes(0)).toBeNull();
    expect(tokenizer.tokenBytes(2048)).toBeNull();
    expect(tokenizer.tokenText(1)).toBe('<|user|>');
    expect(tokenizer.decode([0, 416, 2])).toBe('Once');
    expect(tokenizer.decode([])).toBe('');
  });

  it('knows the length of its longest token', () => {
    const lengths = Array.from({ length: 2048 }, (_, id) => tokenizer.tokenBytes(id)?.length ?? 0);
    expect(tokenizer.longestTokenBytes).toBeGreaterThanOrEqual(Math.max(...lengths));
  });

  it('reads space marks and byte tokens, stripping the space that the encoder added', () => {
    const pieces = createTokenizer(sentencePieceFiles(sentencePieceDecoder));

    expect(pieces.encode('ab a€', plain)).toEqual([9, 7, 1, 2, 3]);
    expect(pieces.decode([9, 7, 1, 2, 3])).toBe('ab a€');
    expect([...(pieces.tokenBytes(9) ?? [])]).toEqual([32, 97, 98]);
    expect(pieces.numLeadingSpaces).toBe(1);
    expect([...(pieces.tokenBytes(1) ?? [])]).toEqual([0xe2]);
  });

  it.each([
    [{ type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' }, 'ab a'],
    [{ type: 'Metaspace', replacement: '▁', prepend_scheme: 'never' }, ' ab a'],
  ])('reads %o', (decoder, expected) => {
    expect(createTokenizer(sentencePieceFiles(decoder)).decode([9, 7])).toBe(expected);
  });

  it.each([{ type: 'WordPiece', prefix: '##' }, { type: 'CTC' }, null])(
    'refuses decoder %o, whose tokens have no bytes of their own',
    (decoder) => {
      const files = sentencePieceFiles(decoder);
      expect(() => createTokenizer(files)).toThrow(TokenizerError);
      expect(() => createTokenizer(files)).toThrow('is not supported');
    },
  );

  it.each([
    ['tokenizer.json', { tokenizerJson: storiesFiles.tokenizerJson.slice(0, 999) }],
    ['tokenizer.json', { tokenizerJson: '{}' }],
    ['tokenizer_config.json', { tokenizerConfigJson: '{"bos_token": ' }],
  ])('names %s when it is the damaged one', (name, damaged) => {
    const files = { ...storiesFiles, ...damaged };
    expect(() => createTokenizer(files)).toThrow(TokenizerError);
    expect(() => createTokenizer(files)).toThrow(`${name} cannot be used: `);
  });
});
