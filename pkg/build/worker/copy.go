package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/relkit/relkit/pkg/sys/process"
)

const (
	// greetTimeout bounds the time until a worker's shell answers, where nothing is
	// waited for; uploadTimeout that until it has a copy of relkit.
	greetTimeout  = time.Minute
	uploadTimeout = 15 * time.Minute
	// maxNoise bounds what a shell's start files may print before, in bytes.
	maxNoise = 1 << 20
)

// script is what the worker's shell runs. It reads the table of the relkits that
// there are, and where the worker has the one for it already, it becomes the
// supervisor without another word. Else it asks for a copy, which the digest in its
// name stands for: it is there whole, or not at all.
//
// What it says to relkit stands on lines that begin with the cookie, so that
// nothing that start files print is taken for it.
func script(dir, cookie string, heartbeat time.Duration) string {
	d := quote(dir)
	if dir == "" {
		d = `${XDG_CACHE_HOME:-$HOME/.cache}/relkit`
	}
	return strings.NewReplacer("COOKIE", cookie, "NAME", process.CookieName, "DIR", d, "ARG", process.SuperviseArg, "BEAT", heartbeat.String(),
		"PATHS", defaultPath).Replace(`NAME=COOKIE; export NAME
PATH=${PATH:-PATHS}; export PATH
[ -n "$HOME" ] || HOME=$(getent passwd "$(id -u)" | cut -d: -f6); export HOME
d=DIR
m=$(uname -sm)
h=
while read -r x y z && [ "$x" ]; do
	[ "$z" != "$m" ] || { h=$x s=$y; }
done
[ "$h" ] || { echo "COOKIE none $m"; exit 1; }
b=$d/bin/relkit-$h
[ -x "$b" ] || (
	umask 077
	mkdir -p "$d/bin" && t=$(mktemp "$d/bin/.new-XXXXXX") || exit
	trap 'rm -f "$t"' EXIT
	echo "COOKIE send $h"
	head -c "$s" >"$t" && echo "$h  $t" | sha256sum -c >/dev/null && chmod 700 "$t" && { sync "$t" 2>/dev/null || sync; } && mv -f "$t" "$b" && trap - EXIT
) || { echo "COOKIE failed"; exit 1; }
echo "COOKIE ready $d"
exec "$b" ARG BEAT
`)
}

// table is what the script reads first: a line for each relkit, and an empty one.
func table(list []binary) string {
	var text strings.Builder
	for _, b := range list {
		if b.err != nil {
			continue
		}
		fmt.Fprintf(&text, "%s %d %s\n", b.digest, b.size, b.machine)
	}
	return text.String() + "\n"
}

// defaultPath is that of a worker that has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// quote makes one word of text for a POSIX shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// greet follows the script's words on a link until the supervisor is there, and
// answers the worker's folder. Where wait is true the worker may take its time.
func greet(ctx context.Context, l *process.Link, cookie string, list []binary, wait bool) (dir string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(greetTimeout, func() { cancel(fmt.Errorf("no answer within %v", greetTimeout)) })
	defer limit.Stop()
	if wait {
		limit.Stop()
	}
	stop := context.AfterFunc(ctx, l.Kill)
	defer stop()
	r := bufio.NewReaderSize(l.Out, 128<<10) // as large as the supervisor's own, which then takes it over
	l.Out = r
	fail := func(err error) (string, error) {
		l.Kill()
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if l.Said != nil {
			if text := strings.TrimSpace(l.Said()); text != "" {
				return "", fmt.Errorf("%w: %q", err, text)
			}
		}
		return "", err
	}
	for noise := 0; noise < maxNoise; {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			err = nil
		}
		if err != nil {
			_ = l.Wait() // for the last of what it said
			return fail(fmt.Errorf("starting relkit there: %w", noEOF(err)))
		}
		word, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), cookie+" ")
		if !ok {
			noise += len(line)
			continue
		}
		word, value, _ := strings.Cut(word, " ")
		switch word {
		case "ready":
			return value, nil
		case "send":
			limit.Reset(uploadTimeout)
			if err := upload(l.In, value, list); err != nil {
				return fail(fmt.Errorf("copying relkit there: %w", err))
			}
		case "none":
			return fail(lacking(list, value))
		default:
			return fail(errors.New("copying relkit there failed"))
		}
	}
	return fail(fmt.Errorf("its shell prints more than %d bytes before it runs anything", maxNoise))
}

func upload(w io.Writer, digest string, list []binary) error {
	for _, b := range list {
		if b.digest != digest {
			continue
		}
		f, err := os.Open(b.path)
		if err != nil {
			return err
		}
		defer f.Close()
		n, err := io.Copy(w, io.LimitReader(f, b.size))
		if err == nil && n < b.size {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return fmt.Errorf("it asks for %q", digest)
}
