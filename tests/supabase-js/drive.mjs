// Drives the unmodified clients of Supabase through a gateway. A test in Rust starts it, answers it where it waits, and looks at what the servers
// behind the gateway saw. Any failed assertion ends it with another status than 0.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { createClient } from '@supabase/supabase-js'
import * as tus from 'tus-js-client'
import WebSocket from 'ws'

const { GATEWAY: url, APIKEY: key } = process.env
const mode = process.argv[2]
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

// Says where it is, and waits until the test has done its part.
async function wait(name) {
  console.log(JSON.stringify({ waits: name }))
  await lines.next()
}

// How sockets ended, which the client itself keeps for itself.
const ends = []
class Watched extends WebSocket {
  constructor(...all) {
    super(...all)
    this.on('close', (code, reason) => ends.push(`${code} ${reason}`))
  }
}

const client = createClient(url, key, {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: Watched },
})
const credentials = { email: 'grace@example.test', password: 'correct horse battery' }

async function until(what, holds) {
  const deadline = Date.now() + 15_000
  while (!holds()) {
    assert(Date.now() < deadline, `never happened: ${what}`)
    await new Promise((resume) => setTimeout(resume, 5))
  }
}

function good({ data, error }) {
  assert.equal(error, null)
  return data
}

async function signIn() {
  good(await client.auth.signUp(credentials))
  const { session } = good(await client.auth.signInWithPassword(credentials))
  return session
}

async function tables() {
  const read = await client.from('projects').select('id, name').eq('id', 1).order('name').limit(5)
  assert.deepEqual(good(read), [{ id: 1, name: 'one' }])
  const written = await client.from('projects').insert({ name: 'two' }).select('id,name')
  assert.deepEqual(good(written), [{ id: 2, name: 'two' }])
  const several = client.from('projects').upsert([{ name: 'a' }, { name: 'b' }], { onConflict: 'id' })
  assert.equal((await several).error, null)
  const forbidden = [
    client.from('projects').update({ owner: 'me' }).eq('id', 1),
    client.from('projects').insert([{ name: 'a' }, { name: 'b', owner: 'me' }]),
    client.from('projects').select('*'),
    client.from('projects').select('id').order('owner'),
    client.from('projects').select('id, users(email)'),
    client.from('projects').delete().eq('id', 1),
    client.from('users').select('id'),
    client.schema('auth').from('users').select('id'),
    client.rpc('add_user_credits', { amount: 1 }),
  ]
  for (const call of forbidden) {
    const { data, error, status } = await call
    assert.equal(data, null)
    assert.equal(status, 403)
    assert.equal(error.code, '42501')
  }
  assert.deepEqual(good(await client.rpc('search', { term: 'cat' })), [{ id: 1 }])
}

async function storage(session) {
  const bucket = client.storage.from('media')
  const file = new Blob(['hello'], { type: 'text/plain' })
  assert.equal(good(await bucket.upload('me/a b.txt', file, { upsert: true })).path, 'me/a b.txt')
  // A public object needs no key.
  const { publicUrl } = bucket.getPublicUrl('me/a b.txt').data
  assert.equal(await (await fetch(publicUrl)).text(), 'public')
  // In pieces, the second of which is resumed by another client that knows no more than the URL.
  const content = Buffer.alloc(100_000, 'tus')
  const options = {
    endpoint: `${url}/storage/v1/upload/resumable`,
    headers: { authorization: `Bearer ${session.access_token}`, apikey: key, 'x-upsert': 'true' },
    metadata: { bucketName: 'media', objectName: 'me/b', contentType: 'text/plain' },
    chunkSize: 40_000,
    retryDelays: null,
  }
  const begun = await new Promise((resolve, reject) => {
    const upload = new tus.Upload(content, {
      ...options,
      onError: reject,
      onChunkComplete: () => upload.abort().then(() => resolve(upload.url), reject),
    })
    upload.start()
  })
  assert(begun.startsWith(`${url}/storage/v1/upload/resumable/`), begun)
  await new Promise((resolve, reject) => {
    new tus.Upload(content, { ...options, uploadUrl: begun, onError: reject, onSuccess: resolve }).start()
  })
}

async function channel() {
  const heard = []
  const room = client.channel('room', { config: { private: true, broadcast: { self: true } } })
  room.on('broadcast', { event: 'shout' }, ({ payload }) => heard.push(payload))
  const states = []
  room.subscribe((state) => states.push(state))
  await until('subscribed', () => states.includes('SUBSCRIBED'))
  assert.equal(await room.send({ type: 'broadcast', event: 'shout', payload: { x: 'ä'.repeat(2000) } }), 'ok')
  await until('the broadcast', () => heard.length === 1)
  assert.deepEqual(heard[0], { x: 'ä'.repeat(2000) })
}

async function whole() {
  const first = await signIn()
  assert.equal(good(await client.auth.getUser()).user.email, credentials.email)
  const { session } = good(await client.auth.refreshSession())
  assert.notEqual(session.refresh_token, first.refresh_token)
  await tables()
  await storage(session)
  await channel()
  // The client tells the channel by itself that its token is another one.
  good(await client.auth.refreshSession())
  await wait('refreshed')
  assert.deepEqual(ends, [])
  const { access_token: last } = good(await client.auth.getSession()).session

  assert.equal((await client.auth.signOut()).error, null)
  for (const token of [first.access_token, session.access_token, last]) {
    const headers = { apikey: key, authorization: `Bearer ${token}` }
    const refused = await fetch(`${url}/rest/v1/projects?select=id`, { headers })
    assert.equal(refused.status, 401)
    assert.equal((await refused.json()).code, 'PGRST303')
  }
  await until('the socket ends', () => ends.length > 0)
  assert.equal(ends[0], '4401 session_not_found')
  await client.removeAllChannels()
}

async function outage() {
  const events = []
  client.auth.onAuthStateChange((event) => events.push(event))
  await signIn()
  await wait('signed in')
  // Whatever is down, nobody is signed out.
  const { error } = await client.auth.getUser()
  assert.equal(error.name, 'AuthRetryableFetchError', error)
  assert.equal(error.status, 503)
  assert.notEqual((await client.auth.getSession()).data.session, null)
  assert(!events.includes('SIGNED_OUT'), events)
  await wait('asked')
  good(await client.auth.getUser())
  await wait('asked again')
  // The operator has revoked the session: now they are.
  const ended = await client.auth.getUser()
  assert.equal(ended.error.name, 'AuthSessionMissingError', ended.error)
  assert.equal((await client.auth.getSession()).data.session, null)
  assert(events.includes('SIGNED_OUT'), events)
}

// A stored session that no identity server can refresh is over at once, and the client says so.
async function stored() {
  const session = { access_token: 'no token', refresh_token: 'malformed', token_type: 'bearer', expires_in: 3600, expires_at: 1, user: { id: 'x' } }
  const kept = new Map([['stored', JSON.stringify(session)]])
  const storage = { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value), removeItem: (name) => kept.delete(name) }
  const other = createClient(url, key, { auth: { storage, storageKey: 'stored', persistSession: true, autoRefreshToken: false }, realtime: { transport: Watched } })
  const events = []
  other.auth.onAuthStateChange((event) => events.push(event))
  const began = Date.now()
  const found = await other.auth.getSession()
  assert.equal(found.data.session, null)
  await until('it is signed out', () => events.includes('SIGNED_OUT'))
  // While it is told of an outage, it tries again for half a minute.
  assert(Date.now() - began < 15_000, `${Date.now() - began} ms`)
  assert.equal(kept.size, 0)
}

// The query that the double of the tables knows.
function projects() {
  return client.from('projects').select('id, name').eq('id', 1).order('name').limit(5)
}

async function guest() {
  const { user } = good(await client.auth.signInAnonymously())
  assert.equal(user.is_anonymous, true)
  assert.equal(good(await client.auth.getUser()).user.id, user.id)
  // The tables are for users with a row.
  const refused = await projects()
  assert.equal(refused.status, 403)
  // The guest becomes a permanent user, with a row.
  good(await client.auth.updateUser(credentials))
  const { session } = good(await client.auth.refreshSession())
  assert.equal(session.user.is_anonymous, false)
  assert.equal(session.user.id, user.id)
  assert.deepEqual(good(await projects()), [{ id: 1, name: 'one' }])
  assert.equal((await client.auth.signOut()).error, null)
  // Another one leaves as a guest.
  good(await client.auth.signInAnonymously())
  assert.equal((await client.auth.signOut()).error, null)
  assert.equal((await client.auth.getSession()).data.session, null)
}

async function newcomer() {
  // An imported account, whose row does not exist yet, and then one that signs up.
  for (const enter of [
    () => client.auth.signInWithPassword(credentials),
    () => client.auth.signUp({ ...credentials, email: 'new@example.test' }),
  ]) {
    good(await enter())
    const all = await Promise.all(Array.from({ length: 16 }, () => projects()))
    for (const read of all) assert.deepEqual(good(read), [{ id: 1, name: 'one' }])
    assert.equal((await client.auth.signOut({ scope: 'local' })).error, null)
  }
}

// What a page of the project sees that only a second factor opens.
async function second() {
  const { access_token: token } = good(await client.auth.getSession()).session
  const answer = await fetch(`${url}/second`, { headers: { authorization: `Bearer ${token}` } })
  return answer.status
}

async function levels() {
  const { currentLevel, nextLevel } = good(await client.auth.mfa.getAuthenticatorAssuranceLevel())
  return [currentLevel, nextLevel]
}

async function enroll(params) {
  const factor = good(await client.auth.mfa.enroll(params))
  assert.equal(factor.type, params.factorType)
  return factor.id
}

async function unenroll(factorId) {
  good(await client.auth.mfa.unenroll({ factorId }))
  good(await client.auth.refreshSession())
  assert.equal(await second(), 403)
}

// Every kind of second factor, from its enrolment to its removal.
async function factors() {
  await signIn()
  assert.equal(await second(), 403)
  assert.deepEqual(await levels(), ['aal1', 'aal1'])

  let factorId = await enroll({ factorType: 'totp', friendlyName: 'an app', issuer: 'a project' })
  const { id: challengeId } = good(await client.auth.mfa.challenge({ factorId }))
  const wrong = await client.auth.mfa.verify({ factorId, challengeId, code: '000000' })
  assert.equal(wrong.error.code, 'mfa_verification_failed')
  assert.equal(await second(), 403)
  // Another device, which has no second factor, is signed out by the proof.
  const other = createClient(url, key, { auth: { persistSession: false, autoRefreshToken: false, storageKey: 'other' }, realtime: { transport: Watched } })
  good(await other.auth.signInWithPassword(credentials))
  good(await other.auth.getUser())
  good(await client.auth.mfa.challengeAndVerify({ factorId, code: '123456' }))
  const ended = await other.auth.getUser()
  assert.equal(ended.error.name, 'AuthSessionMissingError', ended.error)
  assert.equal((await other.auth.getSession()).data.session, null)
  assert.equal(await second(), 200)
  assert.deepEqual(await levels(), ['aal2', 'aal2'])
  const { totp } = good(await client.auth.mfa.listFactors())
  assert.deepEqual(totp.map(({ id, status }) => [id, status]), [[factorId, 'verified']])
  good(await client.auth.refreshSession())
  assert.equal(await second(), 200)
  await unenroll(factorId)

  factorId = await enroll({ factorType: 'phone', friendlyName: 'a phone', phone: '+12025550123' })
  const sent = good(await client.auth.mfa.challenge({ factorId, channel: 'sms' }))
  good(await client.auth.mfa.verify({ factorId, challengeId: sent.id, code: '123456' }))
  assert.equal(await second(), 200)
  await unenroll(factorId)

  factorId = await enroll({ factorType: 'webauthn', friendlyName: 'a key' })
  for (const type of ['create', 'request']) {
    const challenge = good(await client.auth.mfa.challenge({ factorId, webauthn: { rpId: 'api.test', rpOrigins: [url] } }))
    assert.equal(challenge.webauthn.type, type)
    const credential_response = { toJSON: () => ({ id: 'a key', rawId: 'a key', type: 'public-key', response: {} }) }
    const webauthn = { type, rpId: 'api.test', rpOrigins: [url], credential_response }
    good(await client.auth.mfa.verify({ factorId, challengeId: challenge.id, webauthn }))
    assert.equal(await second(), 200)
  }
  await wait('proven')
  await unenroll(factorId)
}

// What else a client calls: each reaches the identity server, or is refused by it.
async function elsewhere() {
  await signIn()
  const sso = good(await client.auth.signInWithSSO({ domain: 'example.test' }))
  assert.equal(sso.url, 'https://idp.test/sso')
  const identity = good(await client.auth.linkIdentity({ provider: 'github', options: { skipBrowserRedirect: true } }))
  assert.equal(identity.url, 'https://provider.test')
  good(await client.auth.oauth.getAuthorizationDetails('abc_DEF-1'))
  good(await client.auth.oauth.listGrants())
  good(await client.auth.oauth.revokeGrant({ clientId: '018f5b5e-0000-7000-8000-000000000001' }))
  good(await client.auth.reauthenticate())
  // An administrator's calls are refused, whatever key comes with them.
  const { error } = await client.auth.admin.listUsers()
  assert.equal(error.status, 404)
}

// A page that a redirect has given its tokens is in the user's list, and can sign out everywhere at once.
async function linked() {
  const [access_token, refresh_token, elsewhere] = process.env.INPUT.split(' ')
  good(await client.auth.setSession({ access_token, refresh_token }))
  good(await client.auth.getUser())
  const list = async () => (await (await fetch(`${url}/api/v1/auth/sessions`, { headers: { authorization: `Bearer ${access_token}` } })).json()).sessions
  const deadline = Date.now() + 15_000
  while (!(await list()).some((one) => one.current)) assert(Date.now() < deadline, 'it is never listed')
  assert.equal((await client.auth.signOut({ scope: 'global' })).error, null)
  for (const token of [access_token, elsewhere]) {
    const { error } = await client.auth.getUser(token)
    assert.equal(error.name, 'AuthSessionMissingError', error)
  }
}

await { whole, outage, stored, linked, guest, newcomer, factors, elsewhere }[mode]()
console.log(JSON.stringify({ done: mode }))
process.exit(0)
