package failure

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestOf(t *testing.T) {
	refused := Errorf(Refused, "reading %q: %w", "x", fs.ErrNotExist)
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{errors.New("plain"), Failed},
		{refused, Refused},
		{fmt.Errorf("doing: %w", refused), Refused},
		{As(Restored, refused), Restored}, // the outermost word counts
		{errors.Join(errors.New("first"), refused), Refused},
		{WithHint(refused, "try %s", "this"), Refused},
		{WithHint(errors.New("plain"), "x"), Failed},
	} {
		if got := Of(c.err); got != c.want {
			t.Errorf("%v: kind %d, want %d", c.err, got, c.want)
		}
	}
	if !errors.Is(refused, fs.ErrNotExist) || refused.Error() != `reading "x": file does not exist` {
		t.Errorf("%v", refused)
	}
	if As(Refused, nil) != nil || WithHint(nil, "x") != nil {
		t.Error("nil does not stay nil")
	}
}

func TestHint(t *testing.T) {
	inner := WithHint(errors.New("no"), "inner")
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), ""},
		{inner, "inner"},
		{fmt.Errorf("doing: %w", As(Untrusted, inner)), "inner"},
		{WithHint(inner, "outer"), "outer"},
		{Errorf(No, "x"), ""},
	} {
		if got := Hint(c.err); got != c.want {
			t.Errorf("%v: hint %q, want %q", c.err, got, c.want)
		}
	}
}
