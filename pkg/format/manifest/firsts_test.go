package manifest

import (
	"fmt"
	"strings"
	"testing"
)

func TestFirsts(t *testing.T) {
	var f Firsts
	long := strings.Repeat("x", 1<<16)
	name := func(link int) string { return fmt.Sprintf("%s-%d", long[:link*link], link) }
	for link := 1; link <= 250; link++ {
		if link%10 != 3 { // its first name vanished
			f.Set(link, name(link))
		}
	}
	f.Set(13, "second")
	for link := -1; link <= 300; link++ {
		want := ""
		switch {
		case link == 13:
			want = "second"
		case link > 0 && link <= 250 && link%10 != 3:
			want = name(link)
		}
		if got := f.Of(link); got != want || f.Has(link) != (want != "") {
			t.Fatalf("group %d: got %.20q, want %.20q", link, got, want)
		}
	}
}
