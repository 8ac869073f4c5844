"""
A talk over HTTP: a page for a browser, and what OpenAI's clients speak. One model, a memory for each session.

A reply is written in one of a few threads; who is not served at once waits in a queue that has an end. What a
client hears of is the reply as it is written, what it drew on, or one line that says what is wrong.
"""
import asyncio
import contextlib
import hmac
import json
import os
import socket
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.routing import Route

from core.texts import read_file
from page.files import page_of
from talk.asked import SESSION, asked_of, refuse
from talk.commands import why
from talk.talk import Stopped

OWN_ADDRESSES = '127.0.0.1', 'localhost'
TYPES = {401: 'authentication_error', 404: 'not_found_error', 429: 'rate_limit_error'}
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'page.html')
# the page asks nobody else for anything, and no other page may frame it
POLICY = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")


@dataclass(frozen=True)
class Limits:
    """token: '' asks for none. body_bytes: of a request. writers: replies written at once. waiting: how many
    more may wait. open_sessions: kept in memory, the least recently used is let go, all are on the disk."""
    token: str = ''
    writers: int = 2
    waiting: int = 32
    body_bytes: int = 2**20
    open_sessions: int = 64


class Serving:
    """begin: a session's name and a Style -> its Talk. name: the model's. session: of who names none. style:
    where a request says nothing else. most_tokens: of a reply."""

    def __init__(self, begin, name, session, style, most_tokens, limits):
        if not SESSION.fullmatch(session):
            raise ValueError(f"memory_file ends in {session!r}, which is no name of a session: expected 1 to "
                             "64 of A-Z, a-z, 0-9, _ and -")
        self.begin, self.name, self.session, self.limits = begin, name, session, limits
        self.style, self.most_tokens = style, most_tokens
        self.last = {}  # {session: its last Reply}
        self.threads, self.talks = ThreadPoolExecutor(limits.writers), OrderedDict()
        self.lock, self.taken, self.closing = threading.Lock(), 0, threading.Event()

    def talk(self, session, style):
        """Raises ValueError, OSError kinds."""
        with self.lock:
            talk = self.talks.pop(session, None) or self.begin(session, style)
            self.talks[session] = talk
            if len(self.talks) > self.limits.open_sessions:
                gone, _ = self.talks.popitem(last=False)
                self.last.pop(gone, None)
        return talk

    # ---- one reply, in a thread of its own ----

    def write(self, asked, tell, is_gone):
        """-> the Reply, remembered. Raises Stopped where the client has gone before it began."""
        style = style_of(asked, self.style)
        talk = self.talk(asked.session, style)
        with talk.lock:
            if is_gone():
                raise Stopped
            talk.speak_after(style)
            reply = talk.reply(asked.words, list(asked.before), tell)
            talk.remember_exchange(asked.words, reply.text)
            self.last[asked.session] = reply
        return reply

    def of_last(self, session, job):
        """What a job says of a Talk and its last Reply. Raises ValueError."""
        talk, reply = self.talk(session, self.style), self.last.get(session)
        if reply is None:
            raise ValueError("no reply of this session is remembered since the server began: say something")
        with talk.lock:
            return job(talk, reply)

    async def pieces(self, asked, request):
        """Each piece of a reply as it is written, then the Reply; the writing stops with who reads them."""
        if self.taken >= self.limits.writers + self.limits.waiting:
            refuse(f"{self.taken} replies are being written or wait already: try again later", status=429)
        loop, told, gone = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def tell(piece):
            if gone.is_set() or self.closing.is_set():
                raise Stopped
            loop.call_soon_threadsafe(told.put_nowait, piece)

        self.taken += 1
        try:
            writing = loop.run_in_executor(self.threads, self.write, asked, tell, gone.is_set)
            writing.add_done_callback(told.put_nowait)
            while (piece := await self.next(told, request, gone)) is not writing:
                yield piece
            yield result_of(writing)
        finally:
            gone.set()
            self.taken -= 1

    async def next(self, told, request, gone):
        """What is told next; looks now and then whether the client is still there."""
        while True:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(told.get(), 0.5)
            if await request.is_disconnected():
                gone.set()  # the writing stops at its next token, and is told of as ever, to nobody

    # ---- answers ----

    async def complete(self, request):
        asked = asked_of(await body_of(request, self.limits.body_bytes), self.name, self.session,
                         self.most_tokens)
        told = self.pieces(asked, request)
        first = await anext(told)  # before anything is sent: what is wrong has a status of its own
        if asked.streams:
            return StreamingResponse(self.events(asked, first, told), media_type='text/event-stream')
        while not hasattr(first, 'ended'):
            first = await anext(told)
        return JSONResponse(self.completion(first))

    async def events(self, asked, piece, told):
        """Chunks as server-sent events."""
        head = self.head('chat.completion.chunk')

        def event(delta, **more):
            return line({**head, 'choices': [choice(delta=delta)], **more})

        yield event({'role': 'assistant', 'content': ''})
        async with contextlib.aclosing(told):
            while not hasattr(piece, 'ended'):
                yield event({'content': piece})
                piece = await anext(told)
        yield line({**head, 'choices': [choice(finish_reason=reason_of(piece), delta={})],
                    'memory': drew_on(piece)})
        if asked.counts:
            yield line({**head, 'choices': [], 'usage': usage_of(piece)})
        yield 'data: [DONE]\n\n'

    def completion(self, reply):
        message = {'role': 'assistant', 'content': reply.text}
        return {**self.head('chat.completion'), 'usage': usage_of(reply), 'memory': drew_on(reply),
                'choices': [choice(message=message, finish_reason=reason_of(reply))]}

    def head(self, kind):
        return {'id': f'chatcmpl-{os.urandom(12).hex()}', 'object': kind, 'created': int(time.time()),
                'model': self.name}

    async def models(self, request):
        return JSONResponse({'object': 'list', 'data': [{'id': self.name, 'object': 'model', 'created': 0,
                                                         'owned_by': 'local'}]})

    async def exchanges(self, request):
        """What a page shows of a session when it opens it; '-' is that of who names none."""
        talk = await in_thread(self.talk, self.session_of(request), self.style)
        said = talk.exchanges()
        return JSONResponse({'exchanges': said[max(0, len(said) - talk.style.context_turns):],
                             'texts': len(talk.memory.held.live_texts)})

    async def show(self, request):
        """The page that shows what the session's last reply drew on, token by token."""
        return HTMLResponse(await in_thread(self.of_last, self.session_of(request),
                                            lambda talk, reply: page_of(talk.trace(reply))))

    async def why(self, request):
        return JSONResponse({'why': await in_thread(self.of_last, self.session_of(request), why)})

    def session_of(self, request):
        session = request.path_params['session']
        session = self.session if session == '-' else session
        if not SESSION.fullmatch(session):
            refuse(f"{session[:80]!r} is no name of a session", 'session')
        return session


# ---- requests ----

async def in_thread(job, *arguments):
    """What a job gives that would keep others waiting."""
    doing = asyncio.get_running_loop().run_in_executor(None, job, *arguments)
    await asyncio.wait([doing])
    return result_of(doing)


async def body_of(request, most):
    """Its bytes, no more than `most`."""
    if request.headers.get('content-type', '').partition(';')[0].strip().lower() != 'application/json':
        refuse("the content-type is not application/json", status=415)  # another page's form cannot send that
    data = b''
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > most:
                refuse(f"the body is longer than {most} bytes", status=413)
    except ClientDisconnect:
        refuse("the client has gone")
    return data


def style_of(asked, style):
    changed = {'max_new_tokens': asked.new_tokens or None, 'seed': asked.seed, 'system': asked.system or None,
               'temperature': asked.temperature or None, 'top_k': 1 if asked.temperature == 0 else None}
    return replace(style, **{name: value for name, value in changed.items() if value is not None})


def result_of(writing):
    """What a thread has done, or what it raised as the client is to hear it."""
    try:
        return writing.result()
    except ValueError as error:
        refuse(' '.join(str(error).split()))
    except Stopped:
        refuse("the server is closing", status=503)
    except OSError as error:
        refuse(f"the memory could not be written: {' '.join(str(error).split())}", status=507)


# ---- answers ----

def line(content):
    return f'data: {json.dumps(content)}\n\n'


def choice(finish_reason=None, **content):
    return {'index': 0, 'finish_reason': finish_reason, 'logprobs': None, **content}


def reason_of(reply):
    return 'length' if reply.ended == 'length' else 'stop'


def usage_of(reply):
    prompt, written = len(reply.turn.ids), len(reply.written)
    return {'prompt_tokens': prompt, 'completion_tokens': written, 'total_tokens': prompt + written}


def drew_on(reply):
    return [{'number': number, 'source': entry['source'], 'text': entry['text'], 'votes': votes}
            for number, entry, votes in reply.drew_on()]


async def say_what_is_wrong(request, error):
    """In OpenAI's shape."""
    told = error.detail if isinstance(error.detail, dict) else {'message': error.detail}
    kind = TYPES.get(error.status_code, 'invalid_request_error')
    return JSONResponse({'error': {'type': kind, 'param': None, 'code': None, **told}}, error.status_code,
                        headers=error.headers)


# ---- the application ----

class Token:
    """ASGI middleware: what is not the page wants the token, as OpenAI's clients send their key."""

    def __init__(self, app, token):
        self.app, self.token = app, token.encode()

    async def __call__(self, scope, receive, send):
        given = dict(scope.get('headers', ())).get(b'authorization', b'')
        if scope['type'] == 'http' and scope['path'] != '/' and not hmac.compare_digest(
                given, b'Bearer ' + self.token):
            error = HTTPException(401, {'message': "give the server's token as the API key"})
            return await (await say_what_is_wrong(None, error))(scope, receive, send)
        return await self.app(scope, receive, send)


def app_of(serving, host):
    """host: the address that it is at. At one's own no other name is answered to: a page elsewhere could let
    its name mean this machine."""
    hosts = OWN_ADDRESSES if host in OWN_ADDRESSES else ['*']
    page = read_file(PAGE)

    async def show(request):
        return HTMLResponse(page, headers={'Content-Security-Policy': POLICY})

    token = [Middleware(Token, token=serving.limits.token)] if serving.limits.token else []
    return Starlette(
        routes=[Route('/', show), Route('/v1/models', serving.models),
                Route('/v1/chat/completions', serving.complete, methods=['POST']),
                Route('/v1/sessions/{session}', serving.exchanges),
                Route('/v1/sessions/{session}/page', serving.show),
                Route('/v1/sessions/{session}/why', serving.why)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts), *token],
        exception_handlers={HTTPException: say_what_is_wrong})


def serve(serving, host, port):
    """Until Ctrl-C. Raises ValueError for an address that others reach, without a token; OSError where the
    address is not free."""
    if host not in OWN_ADDRESSES and not serving.limits.token:
        raise ValueError(f"serve_host is {host!r}, which others can reach: give a serve_token as well, or "
                         "127.0.0.1")
    with listening(host, port) as listener, closing(serving):
        config = uvicorn.Config(app_of(serving, host), log_level='warning', timeout_graceful_shutdown=5,
                                lifespan='off')
        print(f"http://{host}:{listener.getsockname()[1]} is the page, /v1 there what OpenAI's clients want; "
              "Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # raised again once it has closed
            uvicorn.Server(config).run(sockets=[listener])


def listening(host, port):
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ':' in host else socket.AF_INET)
    except OSError as error:
        raise OSError(f"{host}, port {port}, is not to be had ({error.strerror}): give another "
                      "serve_port") from None


@contextlib.contextmanager
def closing(serving):
    """Whatever is being written ends with it."""
    try:
        yield
    finally:
        serving.closing.set()
        serving.threads.shutdown(cancel_futures=True)
