"""Completion in a shell: click's, with scripts of our own for zsh and fish, whose own stumble over our answers.

As of click 8.5: in zsh an answer without a value (any path) shifts all that follow, so that the commands are lost, and
what follows ``--option=`` replaces the whole word; in fish a description ends at its first comma, and paths that begin
with ``~``, a variable or a dash are not found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import FishComplete, ZshComplete, add_completion_class, shell_complete

from backchain.errors import UsageError
from backchain.filename import printable

if TYPE_CHECKING:
    from click import Command

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a response plain described
    local type value help
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \
%(complete_var)s=zsh_complete %(prog_name)s)}")
    compset -P 1 '--*='
    for type value help in "${response[@]}"; do
        case $type in
            (dir) _path_files -/ ;;
            (file) _path_files -f ;;
            (plain) [[ $help == _ ]] && plain+=("$value") || described+=("$value:$help") ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described
    (( $#plain )) && compadd -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -l word (commandline -ct)
    set -l option (string match -r -- '^--[^=]+=' $word)
    set -l path (string replace -r -- '^--[^=]+=' '' $word)
    for line in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \
COMP_CWORD="$word" %(prog_name)s)
        set -l answer (string split -m 1 , -- $line)
        switch $answer[1]
            case dir
                printf '%%s\\n' "$option"(complete -C "'' $path" | string match -r '.*/$')
            case file
                printf '%%s\\n' "$option"(complete -C "'' $path")
            case plain
                printf '%%s\\n' "$option$answer[2]"
        end
    end
end

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _Zsh(ZshComplete):
    source_template = _ZSH


class _Fish(FishComplete):
    source_template = _FISH


def complete(command: Command, variable: str, instruction: str) -> int:
    """Answer a shell: with a script (``zsh_source``), or with what may stand where the cursor is (``zsh_complete``).

    Args:
        command: What the command line belongs to.
        variable: The environment variable by which the shell asks.
        instruction: Its value.

    Raises:
        UsageError: Nobody knows the shell, or what it asks for.
    """
    for shell in (_Zsh, _Fish):
        add_completion_class(shell)
    if shell_complete(command, {}, "backchain", variable, instruction):
        wanted = f"{variable}={printable(instruction)}"
        raise UsageError(f"{wanted} is not known", "use bash_source, zsh_source or fish_source")
    return 0
