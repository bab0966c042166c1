import { z } from 'zod';

/** Names of vocabulary entries to the bytes they stand for. */
export interface TokenDecoder {
  toBytes(token: string): Uint8Array;
  /** Spaces that the encoder puts before every text; `join` leaves them out. */
  readonly numLeadingSpaces: number;
  /** The text of whole tokens from the beginning of a text. */
  join(parts: readonly Uint8Array[]): string;
}

const replaceSchema = z.looseObject({
  type: z.literal('Replace'),
  pattern: z.looseObject({ String: z.string() }),
  content: z.string(),
});

const metaspaceSchema = z.looseObject({
  type: z.literal('Metaspace'),
  replacement: z.string().default('▁'),
  prepend_scheme: z.enum(['always', 'first', 'never']).default('always'),
});

const partSchema = z.discriminatedUnion('type', [
  z.looseObject({ type: z.literal('ByteLevel') }),
  z.looseObject({ type: z.literal('ByteFallback') }),
  z.looseObject({ type: z.literal('Fuse') }),
  z.looseObject({
    type: z.literal('Strip'),
    content: z.literal(' '),
    start: z.int().nonnegative(),
    stop: z.literal(0),
  }),
  replaceSchema,
  metaspaceSchema,
]);

type DecoderPart = z.infer<typeof partSchema>;

const decoderSchema = z.union([
  z.looseObject({ type: z.literal('Sequence'), decoders: z.array(partSchema) }),
  partSchema,
]);

/**
 * The decoder of a tokenizer.json, for those kinds whose tokens stand for bytes whatever surrounds
 * them: byte-level ones, and SentencePiece's with `▁` for a space and `<0xNN>` for a byte.
 *
 * @throws {Error} naming a kind that is not one of these
 */
export function createTokenDecoder(decoder: unknown): TokenDecoder {
  const parsed = decoderSchema.safeParse(decoder);
  if (!parsed.success) {
    const described = JSON.stringify(decoder)?.slice(0, 200);
    throw new Error(`tokenizer decoder ${described} is not supported`);
  }
  const parts = isSequence(parsed.data) ? parsed.data.decoders : [parsed.data];
  const numLeadingSpaces = Math.max(0, ...parts.map(numSpacesOf));
  return {
    numLeadingSpaces,
    toBytes: parts.some(({ type }) => type === 'ByteLevel')
      ? byteLevelBytes
      : (token) => pieceBytes(token, parts),
    join: (pieces) => stripSpaces(decodeUtf8(pieces), numLeadingSpaces),
  };
}

function isSequence(
  decoder: z.infer<typeof decoderSchema>,
): decoder is { type: 'Sequence'; decoders: DecoderPart[] } {
  return decoder.type === 'Sequence';
}

/** Spaces that the encoder put in front of every text. */
function numSpacesOf(part: DecoderPart): number {
  if (part.type === 'Strip') return part.start;
  return part.type === 'Metaspace' && part.prepend_scheme !== 'never' ? 1 : 0;
}

function pieceBytes(token: string, parts: readonly DecoderPart[]): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  if (byte !== null && parts.some(({ type }) => type === 'ByteFallback')) {
    return Uint8Array.of(Number.parseInt(byte[1]!, 16));
  }
  let text = token;
  for (const part of parts) {
    if (part.type === 'Replace') text = text.replaceAll(part.pattern.String, part.content);
    if (part.type === 'Metaspace') text = text.replaceAll(part.replacement, ' ');
  }
  return new TextEncoder().encode(text);
}

/** A name with a character outside the byte alphabet, as of an added token, stands for itself. */
function byteLevelBytes(token: string): Uint8Array {
  const bytes = Uint8Array.from(token, (character) => byteByCharacter.get(character) ?? 0);
  const isPlain = [...token].some((character) => !byteByCharacter.has(character));
  return isPlain ? new TextEncoder().encode(token) : bytes;
}

/**
 * GPT-2's alphabet, in which every byte is a visible character: printable Latin-1 stands for
 * itself, the others for U+0100 onward, in order.
 */
const byteByCharacter: ReadonlyMap<string, number> = new Map(
  (() => {
    let numOthers = 0;
    return Array.from({ length: 256 }, (_, byte): [string, number] => {
      const isVisible =
        (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      if (isVisible) return [String.fromCharCode(byte), byte];
      numOthers += 1;
      return [String.fromCharCode(0xff + numOthers), byte];
    });
  })(),
);

function decodeUtf8(pieces: readonly Uint8Array[]): string {
  const decoder = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true });
  let text = '';
  for (const piece of pieces) text += decoder.decode(piece, { stream: true });
  return text + decoder.decode();
}

function stripSpaces(text: string, count: number): string {
  let start = 0;
  while (start < count && text[start] === ' ') start += 1;
  return text.slice(start);
}
