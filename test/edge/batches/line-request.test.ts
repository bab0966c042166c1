import { describe, expect, it } from 'vitest';
import { LineError, parseLine } from '../../../edge/batches/line-request.ts';

const endpoint = '/v1/completions';
const line = { custom_id: 'a', method: 'POST', url: endpoint, body: { prompt: 'Once' } };

function faultOf(text: string | null) {
  try {
    return parseLine({ text }, endpoint);
  } catch (error) {
    if (!(error instanceof LineError)) throw error;
    return { code: error.code, message: error.message, param: error.param };
  }
}

describe('parseLine', () => {
  it('reads the id and the body of a line', () => {
    expect(parseLine({ text: JSON.stringify(line) }, endpoint)).toEqual({
      customId: 'a',
      body: { prompt: 'Once' },
    });
  });

  it.each([
    [null, 'line_too_long', null, 'the limit is 1048576 bytes'],
    ['{', 'invalid_json_line', null, 'this line is not valid JSON'],
    ['[]', 'invalid_json_line', null, 'this line must be a JSON object'],
    ['null', 'invalid_json_line', null, 'this line must be a JSON object'],
    [{ ...line, custom_id: 5 }, 'invalid_request', 'custom_id', 'custom_id is 5'],
    [{ ...line, body: undefined }, 'missing_required_parameter', 'body', 'body is missing'],
    [{ ...line, method: 'GET' }, 'invalid_method', 'method', 'it must be "POST"'],
    [{ ...line, url: '/v1/embeddings' }, 'mismatched_url', 'url', 'it must be the batch'],
  ])('says of %j that it is %s', (given, code, param, message) => {
    const text = given === null || typeof given === 'string' ? given : JSON.stringify(given);
    expect(faultOf(text)).toEqual({ code, param, message: expect.stringContaining(message) });
  });
});
