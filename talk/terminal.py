"""
A talk in a terminal, or with a script that comes through a pipe.
"""
import sys

from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings

from talk.commands import Commands, line_of


def talk_in_terminal(talk):
    """Until /quit or Ctrl-D. Ctrl-C stops a reply, or empties the line; what goes wrong is one line."""
    session, commands = prompt_of(talk), Commands(talk)
    print("/help lists what else can be typed; Alt-Enter begins a new line, Ctrl-C stops a reply")
    while True:
        try:
            line = session.prompt('you  ')
            if line.strip():
                take(line, commands, lambda piece: print(piece, end='', flush=True))
        except EOFError:
            return
        except KeyboardInterrupt:  # at the prompt, or before a reply begins
            print()
        except (ValueError, OSError) as error:
            say_what_is_wrong(error)


def say_what_is_wrong(error, where=''):
    print('error:', *f'{where} {error}'.split(), file=sys.stderr)


def prompt_of(talk):
    """The arrow keys bring back what was said, in earlier talks too."""
    history, keys = InMemoryHistory(), KeyBindings()
    for entry in talk.memory.held.live_texts:
        if 'said' in entry:
            history.append_string(entry['said'])

    @keys.add('escape', 'enter')
    def _(event):
        event.current_buffer.insert_text('\n')
    return PromptSession(history=history, key_bindings=keys)


def take(line, commands, told):
    """A command, or words for the model, whose reply is shown as it is written."""
    if line.startswith('/'):
        print(commands.run(line))
        return
    commands.last = commands.talk.exchange(line, told)
    print(' (stopped)' * (commands.last.ended == 'stopped'))
    for number, entry, _ in commands.last.drew_on():
        print(f'     from {line_of(number, entry).strip()}')


def talk_through_pipe(talk, lines):
    """One line a turn; of each the reply in one line, of a command what it says. What cannot be done is a
    line on stderr, and the talk goes on -> whether all could."""
    if hasattr(lines, 'reconfigure'):  # bytes that are no text are a mistake of their line alone
        lines.reconfigure(errors='surrogateescape')
    commands, all_done = Commands(talk), True
    for number, line in enumerate(map(str.rstrip, lines), 1):
        try:
            said = said_to(line, commands)
        except EOFError:
            break
        except (ValueError, OSError) as error:
            say_what_is_wrong(error, f'line {number}:')
            all_done = False
        else:
            if line:
                print(said, flush=True)
    return all_done


def said_to(line, commands):
    """What a command says, or the reply to words, in one line; to an empty line nothing."""
    if line.startswith('/'):
        return commands.run(line)
    if line:
        commands.last = commands.talk.exchange(line)
        return ' '.join(commands.last.text.split())
    return ''
