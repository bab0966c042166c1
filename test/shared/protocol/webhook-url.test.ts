import { describe, expect, it } from 'vitest';
import { faultOfUrl, isForbiddenAddress } from '../../../shared/protocol/webhook-url.ts';

const strict = { isInsecureAllowed: false };

const REFUSED: readonly (readonly [url: string, reason: RegExp])[] = [
  ['nonsense', /not a URL/],
  ['//example.com/hook', /not a URL/],
  ['https://', /not a URL/],
  ['https://256.1.1.1/', /not a URL/],
  ['http://example.com/', /must begin with https:/],
  ['ftp://example.com/', /must begin with https:/],
  ['file:///etc/passwd', /must begin with https:/],
  ['javascript:alert(1)', /must begin with https:/],
  ['https://user:secret@example.com/', /credentials/],
  ['https://user@example.com/', /credentials/],
  ['https://:secret@example.com/', /credentials/],
  ['https://example.com/#top', /fragment/],
  ['https://example.com/#', /fragment/],
  [`https://example.com/${'a'.repeat(2048)}`, /has 2068 characters; the limit is 2048/],
  ['https://localhost/', /public name/],
  ['https://LOCALHOST./', /public name/],
  ['https://api.localhost/', /public name/],
  ['https://printer.local/', /public name/],
  ['https://metadata.google.internal/computeMetadata/v1/', /public name/],
  ['https://router.home.arpa/', /public name/],
  ['https://redis:6379/', /public name/],
  ['https://127.0.0.1/', /names 127\.0\.0\.1, which is not a public address/],
  ['https://127.0.0.1:8443/', /127\.0\.0\.1/],
  ['https://127.0.0.1./', /127\.0\.0\.1/],
  ['https://127.1/', /127\.0\.0\.1/],
  ['https://127.0.1/', /127\.0\.0\.1/],
  ['https://2130706433/', /127\.0\.0\.1/],
  ['https://0x7f000001/', /127\.0\.0\.1/],
  ['https://0x7f.0.0.1/', /127\.0\.0\.1/],
  ['https://0177.0.0.1/', /127\.0\.0\.1/],
  ['https://017700000001/', /127\.0\.0\.1/],
  ['https://%31%32%37.0.0.1/', /127\.0\.0\.1/],
  ['https://１２７.０.０.１/', /127\.0\.0\.1/],
  ['https://127。0。0。1/', /127\.0\.0\.1/],
  ['https://0/', /0\.0\.0\.0/],
  ['https://0.0.0.0/', /0\.0\.0\.0/],
  ['https://10.0.0.1/', /10\.0\.0\.1/],
  ['https://172.16.0.1/', /172\.16\.0\.1/],
  ['https://172.31.255.255/', /172\.31\.255\.255/],
  ['https://192.168.1.1/', /192\.168\.1\.1/],
  ['https://169.254.169.254/latest/meta-data/', /169\.254\.169\.254/],
  ['https://0xa9fea9fe/', /169\.254\.169\.254/],
  ['https://100.100.100.200/', /100\.100\.100\.200/],
  ['https://168.63.129.16/', /168\.63\.129\.16/],
  ['https://192.0.0.192/', /192\.0\.0\.192/],
  ['https://198.18.0.1/', /198\.18\.0\.1/],
  ['https://203.0.113.7/', /203\.0\.113\.7/],
  ['https://224.0.0.1/', /224\.0\.0\.1/],
  ['https://240.0.0.1/', /240\.0\.0\.1/],
  ['https://255.255.255.255/', /255\.255\.255\.255/],
  ['https://[::]/', /public address/],
  ['https://[::1]/', /public address/],
  ['https://[0:0:0:0:0:0:0:1]/', /names ::1,/],
  ['https://[::ffff:127.0.0.1]/', /public address/],
  ['https://[::ffff:8.8.8.8]/', /public address/],
  ['https://[::ffff:7f00:1]/', /public address/],
  ['https://[::127.0.0.1]/', /public address/],
  ['https://[::ffff:0:127.0.0.1]/', /public address/],
  ['https://[64:ff9b::7f00:1]/', /public address/],
  ['https://[64:ff9b:1::a9fe:a9fe]/', /public address/],
  ['https://[2002:7f00:1::]/', /public address/],
  ['https://[2001:0:4136:e378::]/', /public address/],
  ['https://[2001:db8::1]/', /public address/],
  ['https://[fe80::1]/', /public address/],
  ['https://[fec0::1]/', /public address/],
  ['https://[fc00::1]/', /public address/],
  ['https://[fd00:ec2::254]/', /public address/],
  ['https://[ff02::1]/', /public address/],
  ['https://[100::1]/', /public address/],
  ['https://[4000::1]/', /public address/],
  ['https://[2606:4700::5efe:a9fe:a9fe]/', /public address/],
  ['https://[2606:4700::200:5efe:10.0.0.1]/', /public address/],
];

const ALLOWED = [
  'https://example.com/hook?token=a',
  'https://EXAMPLE.com:8443/',
  'https://bücher.example.org/',
  'https://hooks.example.com./',
  'https://localhost.example.com/',
  'https://internal.example.com/',
  'https://8.8.8.8/',
  'https://0x08080808/',
  'https://172.32.0.1/',
  'https://[2606:4700:4700::1111]/',
];

describe('faultOfUrl', () => {
  it.each(REFUSED)('refuses %s', (url, reason) => {
    expect(faultOfUrl(url, strict)).toMatch(reason);
  });

  it.each(ALLOWED)('allows %s', (url) => {
    expect(faultOfUrl(url, strict)).toBeNull();
  });

  it('allows plain http and this machine in development, and nothing else', () => {
    const insecure = { isInsecureAllowed: true };
    expect(faultOfUrl('http://localhost:3000/hook', insecure)).toBeNull();
    expect(faultOfUrl('http://127.0.0.1:3000/', insecure)).toBeNull();
    expect(faultOfUrl('https://10.0.0.1/', insecure)).toBeNull();
    expect(faultOfUrl('file:///etc/passwd', insecure)).toMatch(/https: or http:/);
    expect(faultOfUrl('http://user@localhost/', insecure)).toMatch(/credentials/);
    expect(faultOfUrl('http://localhost/#a', insecure)).toMatch(/fragment/);
  });
});

describe('isForbiddenAddress', () => {
  it.each(['8.8.8.8', '1.1.1.1', '2606:4700:4700::1111'])('lets %s pass', (address) => {
    expect(isForbiddenAddress(address)).toBe(false);
  });

  it.each(['127.0.0.1', '::1', 'fe80::1%eth0', '::ffff:10.0.0.1', '0.0.0.0', 'example.com', ''])(
    'forbids %j',
    (address) => {
      expect(isForbiddenAddress(address)).toBe(true);
    },
  );
});
