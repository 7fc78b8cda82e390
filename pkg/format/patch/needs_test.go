package patch

import (
	"slices"
	"strings"
	"testing"
)

func TestNeeds(t *testing.T) {
	for _, c := range []struct {
		change func(*Header)
		want   string // "" for a good header
	}{
		{func(h *Header) { h.Labels = map[string]string{"ring": "beta", "site": ""} }, ""},
		{func(h *Header) { h.Labels = map[string]string{"": "x"} }, "bad label"},
		{func(h *Header) { h.Labels = map[string]string{"a=b": "x"} }, "bad label"},
		{func(h *Header) { h.Labels = map[string]string{"a": strings.Repeat("x", 129)} }, "bad label"},
		{func(h *Header) { h.Provides = "tls, schema (= 7)" }, ""},
		{func(h *Header) { h.Provides = "schema (>= 7)" }, "provides: expression"},
		{func(h *Header) { h.Floor = "4.2" }, ""},
		{func(h *Header) { h.Floor = "4.1.9" }, ""},
		{func(h *Header) { h.Floor = "4.2.1" }, "above the version"},
		{func(h *Header) { h.Floor, h.To.Version = "1", "" }, "above the version"},
		{func(h *Header) { h.Floor = "?" }, "floor: version"},
		{func(h *Header) { h.RequiresCommands = []string{"systemctl", "mkfs.ext4"} }, ""},
		{func(h *Header) { h.RequiresCommands = []string{"/bin/sh"} }, "bad name"},
		{func(h *Header) { h.RequiresCommands = []string{".."} }, "bad name"},
		{func(h *Header) { h.RequiresSpace = []Space{{".", 1}, {"var", 5}} }, ""},
		{func(h *Header) { h.RequiresSpace = []Space{{"var", 5}, {"boot", 5}} }, "is not after"},
		{func(h *Header) { h.RequiresSpace = []Space{{"var", 5}, {"var", 5}} }, "is not after"},
		{func(h *Header) { h.RequiresSpace = []Space{{"/var", 5}} }, "bad path"},
		{func(h *Header) { h.RequiresSpace = []Space{{"v\xff", 5}} }, "bad path"},
		{func(h *Header) { h.RequiresSpace = []Space{{"var", 0}} }, "got 0 bytes"},
		{func(h *Header) { h.Managed = []string{"usr/**"} }, "only a full patch"},
		{func(h *Header) {
			h.Full, h.From, h.Managed, h.Never = true, nil, []string{"usr/**"}, []string{"usr/local"}
		}, ""},
		{func(h *Header) { h.Full, h.From, h.Managed = true, nil, []string{"usr/["} }, "managed: bad pattern"},
	} {
		h := testHeader()
		c.change(&h)
		err := h.CheckMeta()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", h, err, c.want)
		}
	}
}

func TestSortSpace(t *testing.T) {
	got := SortSpace([]Space{{"var", 1}, {"boot", 2}, {"var", 3}, {".", 4}})
	if want := []Space{{".", 4}, {"boot", 2}, {"var", 3}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
