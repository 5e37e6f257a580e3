# shellcheck shell=sh
# Makes .venv in the root of the repository and keeps it current: sourced by start, test and check.
# It needs `here`, the folder of these scripts, and gives `prepare run`, `prepare dev`, `prepare_old_sdks` and `prepare_tool`.
# What it says goes to stderr: stdout belongs to the program that is started.

EXTRAS=azure,google,pages,prices,redis

# shellcheck disable=SC2154 # the caller sets `here`
ROOT=$(CDPATH='' cd -P -- "$here/.." && pwd) # -P: where `here` is a link, its .. is not the link's
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
STAMP=$VENV/.set-up
LOCK=$ROOT/.venv.lock # beside .venv, since .venv itself is removed when it is beyond repair
interrupted=''
held=''

say() {
    printf '==> %s\n' "$*" >&2
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    [ -z "$held" ] || unlock
    exit 1
}

# step PROGRAM ARGUMENT...: says what it runs, and runs it from .venv.
step() {
    say "$*"
    program=$1
    shift
    "$VENV/bin/$program" "$@"
}

# prepare run|dev: .venv as pyproject.toml asks for it. An unchanged one costs a few milliseconds and no pip.
prepare() {
    ! is_current "$1" || return 0
    lock
    is_current "$1" || build "$1" # another set-up may have done it while we waited
    unlock
}

# prepare_old_sdks REQUIREMENT...: apart in .venv/old-sdks, where they do not displace the newest ones.
prepare_old_sdks() {
    ! old_sdks_are_current "$@" || return 0
    lock
    if ! old_sdks_are_current "$@"; then
        say "installing older SDKs into .venv/old-sdks: $*"
        rm -rf "$VENV/old-sdks.set-up" "$VENV/old-sdks"
        install --target "$VENV/old-sdks" "$@" || die "the older SDKs could not be installed; see above"
        fingerprint "$*" >"$VENV/old-sdks.set-up"
    fi
    unlock
}

# prepare_tool NAME: apart in .venv/tools; what it brings along does not displace ours.
prepare_tool() {
    [ ! -e "$VENV/tools/$1.set-up" ] || return 0
    lock
    say "installing $1 into .venv/tools"
    install --upgrade --target "$VENV/tools" "$1" || die "$1 could not be installed; see above"
    : >"$VENV/tools/$1.set-up"
    unlock
}

old_sdks_are_current() {
    [ -r "$VENV/old-sdks.set-up" ] && [ "$(cat "$VENV/old-sdks.set-up")" = "$(fingerprint "$*")" ]
}

# What `dev` installs holds all that `run` needs, so `start` after `test` has nothing to do.
is_current() {
    [ -r "$STAMP" ] && [ -x "$VENV/bin/llm-passthrough" ] || return 1
    print=$(project_fingerprint) || return 1
    case $(cat "$STAMP") in
    "dev $print" | "$1 $print") ;;
    *) return 1 ;;
    esac
}

project_fingerprint() {
    fingerprint "$(cat "$ROOT/pyproject.toml")" "$EXTRAS"
}

# The folder counts too: a venv that was moved or copied has the old path in its programs.
fingerprint() {
    version=$("$PYTHON" -I -S -c 'import sys; print(sys.version)' 2>/dev/null) || return 1
    printf '%s\n' "$ROOT" "$version" "$@" | cksum
}

build() {
    rm -f "$STAMP"
    if [ ! -e "$VENV" ]; then
        make_venv
    else
        fault=$(fault_of_venv)
        if [ -n "$fault" ]; then
            say "making .venv anew: $fault"
            make_venv
        fi
    fi
    case $1 in
    dev) extras=dev,$EXTRAS ;;
    *) extras=$EXTRAS ;;
    esac
    say "installing llm-passthrough[$extras] into .venv (the first time takes a minute or two)"
    (cd "$ROOT" && install --editable ".[$extras]") || die "the installation failed; see above"
    printf '%s %s\n' "$1" "$(project_fingerprint)" >"$STAMP"
}

# On a terminal the installer shows its progress; elsewhere it is heard only when it fails.
install() {
    if [ -t 2 ]; then
        install_aloud "$@" >&2
    elif ! install_aloud --quiet "$@" >"$VENV/set-up.log" 2>&1; then
        cat "$VENV/set-up.log" >&2
        return 1
    fi
}

install_aloud() {
    if has_uv; then
        uv pip install --python "$PYTHON" "$@"
    else
        "$PYTHON" -I -m pip --disable-pip-version-check install "$@"
    fi
}

# A shim may be on the PATH and still not run.
has_uv() {
    uv --version >/dev/null 2>&1
}

# Prints why .venv cannot be used, or nothing.
fault_of_venv() {
    if [ -n "$interrupted" ]; then
        echo "the last set-up was interrupted"
    elif ! "$PYTHON" -I -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then
        echo "its Python does not run or is older than 3.12"
    elif ! has_uv && ! "$PYTHON" -I -c 'import pip' >/dev/null 2>&1; then
        echo "it has no pip"
    elif [ -r "$VENV/.root" ] && [ "$(cat "$VENV/.root")" != "$ROOT" ]; then
        echo "it was made in another folder"
    fi
}

make_venv() {
    rm -rf "$VENV"
    if ! make_venv_with_uv; then
        find_python
        say "making .venv with $found"
        (cd "$ROOT" && "$found" -I -m venv "$VENV" >&2) || {
            rm -rf "$VENV"
            die "$found could not make a virtual environment; see above"
        }
    fi
    printf '%s\n' "$ROOT" >"$VENV/.root"
}

make_venv_with_uv() {
    has_uv || return 1
    wished='>=3.12'
    [ ! -r "$ROOT/.python-version" ] || wished=$(head -n 1 "$ROOT/.python-version")
    say "making .venv with uv (Python $wished)"
    (cd "$ROOT" && uv venv --quiet --no-project --python "$wished" "$VENV" >&2) || {
        rm -rf "$VENV"
        return 1
    }
}

PROBE='
import sys
version = "%d.%d" % sys.version_info[:2]
if sys.version_info < (3, 12):
    print("old " + version)
else:
    try:
        import ensurepip, venv
        print("good " + version)
    except ImportError:
        print("bare " + version)
'

# Sets `found`. Every candidate is run: a pyenv shim is found on the PATH even when nothing stands behind it.
find_python() {
    old=''
    bare=''
    versions=${PYENV_ROOT:-${HOME-}/.pyenv}/versions
    for found in python3.13 python3.14 python3.12 python3 \
        "$versions"/3.1[3-9]*/bin/python "$versions"/3.12*/bin/python; do
        answer=$(cd "$ROOT" && "$found" -I -c "$PROBE" 2>/dev/null) || continue
        case $answer in
        "good "*) return ;;
        "bare "*) bare=${bare:-${answer#* }} ;;
        "old "*) old="; found only ${answer#* }" ;;
        esac
    done
    [ -z "$bare" ] || die "Python $bare has no venv and ensurepip: install the package python$bare-venv (Debian, Ubuntu) and try again"
    die "Python 3.12 or newer is needed$old: install python3.13 with your system's packages, 'brew install python@3.13' or 'pyenv install 3.13' (or install uv, which brings one) and try again"
}

# A set-up that ends in any way but its own leaves the lock behind, with a process id that is gone.
# So a stale lock means two things: it is free to take, and .venv may be half-made.
lock() {
    waits=0
    nameless=0
    until mkdir "$LOCK" 2>/dev/null; do
        [ -d "$LOCK" ] || [ -w "$ROOT" ] || die "cannot write to $ROOT"
        if take_over; then
            interrupted=yes
            break
        fi
        [ "$waits" -gt 0 ] || say "waiting for another set-up (process ${holder:-unknown}; if it is none of ours, remove $LOCK)"
        waits=$((waits + 1))
        sleep 1
    done
    # pip answers Ctrl-C with an ordinary exit code, which would look like a clean failure.
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    held=yes
    echo $$ >"$LOCK/pid"
}

# Stale: the holder is gone, it never said its name, or it has held the lock for an hour.
# Of several that see it, the one that makes the heir's folder gets it.
take_over() {
    holder=$(cat "$LOCK/pid" 2>/dev/null) || holder=''
    if [ -z "$holder" ]; then
        nameless=$((nameless + 1))
        [ "$nameless" -gt 5 ] || return 1
    elif [ "$holder" != $$ ] && kill -0 "$holder" 2>/dev/null; then
        nameless=0
        [ -n "$(find "$LOCK" -prune -mmin +60 2>/dev/null)" ] || return 1
    fi
    mkdir "$LOCK/heir-of-$holder" 2>/dev/null && [ "$(cat "$LOCK/pid" 2>/dev/null)" = "$holder" ]
}

unlock() {
    rm -rf "$LOCK"
    trap - HUP INT TERM
    held=''
    interrupted=''
}
