package source

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/relkit/relkit/pkg/build/worker"
	"github.com/relkit/relkit/pkg/config"
	"github.com/relkit/relkit/pkg/relkittest"
)

// What fails to fetch says so on standard error, which cron mails, and in records:
// the clients themselves repeat the URL there.
func TestErrorsHoldNoSecrets(t *testing.T) {
	relkittest.Need(t, "git", "svn", "hg")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/moved") {
			http.Redirect(w, r, "http://signed-hunter2@127.0.0.1:1/x?sig=hunter2", http.StatusFound)
			return
		}
		http.Error(w, "no", http.StatusNotFound)
	}))
	defer s.Close()
	host, err := worker.Open(t.Context(), config.Worker{}, worker.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "HGRCPATH="}
	at := strings.TrimPrefix(s.URL, "http://")
	for _, vcs := range []string{"git", "svn", "hg", "tar"} {
		for _, url := range []string{"http://user:hunter2@" + at + "/x", "http://user:100%hunter2@" + at + "/x", "http://ghp_hunter2@" + at + "/moved", "http://" + at + "/a.tar?token=hunter2",
			"http://user:hunter2@127.0.0.1:1/x", "http://user:hun/hunter2@" + at + "/x"} {
			d, err := Open(config.Source{Name: "src", VCS: vcs, SHA256: strings.Repeat("0", 64)}, url, host, env, Memory{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			rev, err := d.Head(t.Context(), "")
			if err == nil {
				err = d.Fetch(t.Context(), t.TempDir()+"/repo", rev)
			}
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s %s: %v", vcs, url, err)
			}
		}
	}
}
