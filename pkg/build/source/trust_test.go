package source

import (
	"os"
	"path/filepath"
	"testing"
)

// poisons are what a step may leave in a checkout for relkit's own client to run:
// $BAD makes the file $DIR/ran.
var poisons = map[string]map[string]string{
	"git": {
		"fsmonitor":  `git config core.fsmonitor $BAD`,
		"ssh":        `git config core.sshCommand $BAD; git config url.ssh://h/.insteadOf $DIR`,
		"uploadpack": `git config remote.origin.uploadpack $BAD`,
		"filter":     `git config filter.x.smudge $BAD; git config filter.x.clean $BAD; echo '* filter=x' >.git/info/attributes; rm in`,
		"hook":       `mkdir -p .git/hooks; cp $BAD .git/hooks/post-checkout; cp $BAD .git/hooks/reference-transaction; git config core.hooksPath $PWD/.git/hooks`,
		"include":    `printf '[core]\nfsmonitor = %s\n' $BAD >.git/more; git config include.path more`,
		"commondir":  `cp -r .git ../evil; git config -f ../evil/config filter.x.smudge $BAD; echo '* filter=x' >../evil/info/attributes; printf '../../evil' >.git/commondir; rm in`,
		"worktree":   `git config extensions.worktreeConfig true; git config -f .git/config.worktree filter.x.smudge $BAD; echo '* filter=x' >.git/info/attributes; rm in`,
		"gitfile":    `mv .git ../evil; echo 'gitdir: ../evil' >.git; git config filter.x.smudge $BAD; echo '* filter=x' >../evil/info/attributes; rm in`,
		"link":       `mv .git ../evil; ln -s ../evil .git; git config filter.x.smudge $BAD; echo '* filter=x' >../evil/info/attributes; rm in`,
	},
	"hg": {
		"hook":  `printf '[hooks]\nupdate = %s\nchangegroup = %s\npre-update = %s\npre-log = %s\n' $BAD $BAD $BAD $BAD >.hg/hgrc`,
		"alias": `printf '[alias]\nupdate = !%s\nlog = !%s\n' $BAD $BAD >.hg/hgrc`,
	},
}

// What a build leaves in the repository of its tree runs nothing when the next one
// is checked out, incremental or clean, and the tree is the source's.
func TestPoisonedCheckout(t *testing.T) {
	for i := range upstreams {
		u := &upstreams[i]
		if u.name != "" {
			continue
		}
		for name, poison := range poisons[u.vcs] {
			t.Run(u.vcs+"/"+name, func(t *testing.T) {
				t.Parallel()
				r := newRow(t, u)
				one := r.commit("one", map[string]string{"in": "1"})
				r.checkOut(one, false)
				bad, ran := filepath.Join(r.dir, "bad"), filepath.Join(r.dir, "ran")
				if err := os.WriteFile(bad, []byte("#!/bin/sh\necho \"$0 $*\" >>"+ran+"\nexec cat\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				r.sh(`BAD=$1 DIR=$2; cd "$3"; mkdir -p left; [ ! -d .git ] || mkdir -p .git/info; echo l >left/over; `+poison, bad, r.dir, r.repo)
				_ = os.Remove(ran) // of the poisoning itself
				r.checkOut(one, false)
				two := r.commit("two", map[string]string{"in": "2"})
				r.checkOut(two, false)
				if _, err := r.d.Changes(t.Context(), r.repo, one.ID, two.ID, 9); err != nil {
					t.Error(err)
				}
				r.checkOut(one, true)
				r.is("the source's", "in=1")
				if text, err := os.ReadFile(ran); err == nil {
					t.Errorf("it ran: %s", text)
				}
			})
		}
	}
}

// A module that moves to another URL is followed, though the configuration that
// says which modules are in use was written anew.
func TestModuleMoves(t *testing.T) {
	r := gitRow(t)
	r.sh(quietGit + `git config --global protocol.file.allow always
git init -q mod; cd mod; echo m1 >m; git add -A; git commit -q -m m1; cd ../wc; git submodule --quiet add ~/mod mod`)
	r.checkOut(r.commit("one", map[string]string{"in": "1"}), false)
	r.sh(quietGit + `mv mod moved; cd moved; echo m2 >m; git commit -q -a -m m2
cd ../wc/mod; git fetch -q ~/moved HEAD; git checkout -q FETCH_HEAD; cd ..; git config -f .gitmodules submodule.mod.url ~/moved`)
	r.checkOut(r.commit("two", map[string]string{"in": "2"}), false)
	if text, err := os.ReadFile(filepath.Join(r.repo, "mod/m")); err != nil || string(text) != "m2\n" {
		t.Errorf("%q, %v", text, err)
	}
}
