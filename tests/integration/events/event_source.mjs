// Reads events as a page in a browser does, and prints each message that the EventSource dispatched as a line of JSON.
//
//   TOKEN=… node --experimental-eventsource event_source.mjs URL
//
// The EventSource is Node's own, which is held against the web platform's tests. A page's could send no token: here
// what lies below it adds one to every request. Nothing else is done for it: it reconnects and resumes by itself.
const [url] = process.argv.slice(2)
await fetch('data:,') // Node makes its dispatcher with the first request
const dispatcher = globalThis[Symbol.for('undici.globalDispatcher.1')].compose((dispatch) => (options, handler) =>
  dispatch({ ...options, headers: { ...options.headers, authorization: `Bearer ${process.env.TOKEN}` } }, handler))

setInterval(() => {}, 60_000) // a page stays, too, while its EventSource waits to reconnect
const source = new EventSource(url, { node: { dispatcher }, dispatcher })
const say = (event) => console.log(JSON.stringify({ kind: event.type, id: event.lastEventId, data: event.data }))
source.addEventListener('message', say)
source.addEventListener('truncated', say)
source.addEventListener('error', () => {
  console.error(`error, readyState ${source.readyState}`)
  if (source.readyState === EventSource.CLOSED) process.exit(1)
})
