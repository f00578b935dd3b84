package lexer

import (
	"strings"
	"testing"
)

func TestLookKnowsWhatAStatementIsFor(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		kind  Kind
		flags Flags
	}{
		"select 1":                                             {Read, 0},
		" (SELECT a from t) union (select 2)":                  {Read, 0},
		"select * from t for update":                           {Read, ForUpdate},
		"select * from t for share":                            {Read, ForUpdate},
		"select * from t lock in share mode":                   {Read, ForUpdate},
		"insert into t values (1) on duplicate key update a=1": {Write, 0},
		"insert into t values (@x)":                            {Write, UserVar},
		"select 'for update' from t -- into @x":                {Read, 0},
		"select @a := 5":                                       {Read, UserVar | Assigns},
		"select 1 into @x":                                     {Read, Into | UserVar | Assigns},
		"select get_lock('a', 1)":                              {Read, Locks},
		"select 'get_lock(1)'":                                 {Read, 0},
		"select `get_lock`":                                    {Read, 0},
		"select my_func(1)":                                    {Read, Calls},
		"select db.`f`(1)":                                     {Read, Calls},
		"select count(*), max(a) from t where a in (1,2) and (b=1 or (c=2))": {Read, 0},
		"with x as (select 1) select * from x":                               {Read, 0},
		"with x as (select 1) delete from t":                                 {Write, 0},
		"with recursive x(n) as (select 1) update t set a=1":                 {Write, Calls},
		"begin":                       {Begin, 0},
		"start transaction":           {Begin, 0},
		"START TRANSACTION READ ONLY": {BeginReadOnly, 0},
		"start replica":               {Admin, 0},
		"commit":                      {Commit, 0},
		"commit and chain":            {Commit, Chain},
		"rollback to savepoint a":     {Savepoint, 0},
		"rollback":                    {Rollback, 0},
		"set @a=1":                    {Set, UserVar},
		"set role r":                  {Set, Role},
		"set names utf8mb4 collate x": {Set, Names},
		"set transaction isolation level read committed":         {Set, NextTrx},
		"set session transaction isolation level read committed": {Set, 0},
		"set global x=1":                      {Set, Global},
		"set session_track_gtids='OWN_GTID'":  {Set, Tracks},
		"alter table t add a int":             {Schema, 0},
		"create temporary table t (a int)":    {Other, Temporary | Calls},
		"/*!40101 SET @x=@@sql_mode */;":      {Set, UserVar | SysVar},
		"select 1; select 2":                  {Other, Multi},
		"select 1;":                           {Read, 0},
		"select ';' ; -- end":                 {Read, 0},
		"show warnings":                       {Read, Diagnostic},
		"select row_count()":                  {Read, Diagnostic},
		"select last_insert_id()":             {Read, LastID},
		"/* perdure:writer */ select 1":       {Read, HintWriter},
		"select /*+ perdure:reader */ 1":      {Read, HintReader},
		"lock tables t write":                 {LockTables, 0},
		"unlock tables":                       {UnlockTables, 0},
		"lock instance for backup":            {LockInstance, 0},
		"kill query 5":                        {Kill, 0},
		"select sql_calc_found_rows * from t": {Read, CalcFound},
		"call p()":                            {Call, Calls},
		"do get_lock('x',1)":                  {Other, Locks},
		"":                                    {Other, 0},
		"-- nothing":                          {Other, 0},
		`select "a\"", 'it''s; get_lock(' `:   {Read, 0},
		"explain analyze update t set a=1":    {Write, 0},
		"select * from t where a=?":           {Read, 0},
		"select 1/**/;/**/":                   {Read, 0},
		"select 5--1":                         {Read, 0},
	} {
		got := Look([]byte(text), false)
		if got.Kind != want.kind || got.Flags != want.flags {
			t.Errorf("%s\n got kind %d flags %b\nwant kind %d flags %b", text, got.Kind, got.Flags, want.kind, want.flags)
		}
	}
	if Look([]byte(`select '\'; get_lock(1) --'`), true).Flags != Locks|Multi|Calls {
		t.Error("without backslash escapes the string ends earlier")
	}
}

func TestAssignmentsTakesLiteralsOnly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"set @a=1":                         "a=1",
		"SET @a := -1.5e3, @`b c`='it''s'": "a=-1.5e3 `b c`='it''s'",
		"set @a=null;":                     "a=null",
		"set @a=@b":                        "",
		"set @a=1+1":                       "",
		"set @a=1, sql_mode=''":            "",
		`set @a="x"`:                       "",
		"set @a=(select 1)":                "",
		"set @a='a' 'b'":                   "",
	} {
		list, ok := Assignments([]byte(text), false)
		var got []string
		for _, a := range list {
			got = append(got, a.Name+"="+a.Value)
		}
		if !ok {
			got = nil
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %q, want %q", text, s, want)
		}
	}
}

func TestADigestHoldsNoData(t *testing.T) {
	t.Parallel()
	got := Digest([]byte("SELECT a FROM t WHERE b IN (1,2,'x') AND @c = 5 -- secret"), false, 200)
	if want := "select a from t where b in (?) and @c = ?"; got != want {
		t.Errorf("%q", got)
	}
}

func TestKillTarget(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{"kill 5": 5, "KILL QUERY 77;": 77, "kill connection 9": 9, "kill @a": 0, "kill 5+1": 0} {
		if id, _, _ := KillTarget([]byte(text)); id != want {
			t.Errorf("%s: %d", text, id)
		}
	}
}

func BenchmarkLook(b *testing.B) {
	q := []byte("SELECT c FROM sbtest1 WHERE id=12345 AND k BETWEEN 5 AND 100 ORDER BY c")
	b.ReportAllocs()
	for b.Loop() {
		Look(q, false)
	}
}

func FuzzLook(f *testing.F) {
	f.Add([]byte("select 'a\\'' /* x */ -- y\n;set @a:=1"), true)
	f.Add([]byte("/*!40101 SET NAMES utf8 */;"), false)
	f.Fuzz(func(t *testing.T, text []byte, nb bool) {
		Look(text, nb)
		Assignments(text, nb)
		UserVars(text, nb, func([]byte) {})
		KillTarget(text)
		SetTargets(text, nb, func(Target) {})
		NamesClause(text, nb)
		Digest(text, nb, 256)
	})
}

func TestSetTargetsFindsEverythingThatIsSet(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"set a=1": "a",
		"SET @@session.sql_mode='', @x=(1,2), global c=3":     "sql_mode @x !c",
		"set session transaction_isolation='x', @@b:=1;":      "transaction_isolation b",
		"set @@global.a=1, local b=2":                         "!a b",
		"set names utf8":                                      "names",
		"set @a=if(1,2,3), sql_mode=concat(@@sql_mode, ',x')": "@a sql_mode",
		"set mygroup.cache.key_buffer_size=1":                 "key_buffer_size",
	} {
		var got []string
		SetTargets([]byte(text), false, func(x Target) {
			n := string(x.Name)
			if x.User {
				n = "@" + n
			}
			if x.Global {
				n = "!" + n
			}
			got = append(got, n)
		})
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %q, want %q", text, s, want)
		}
	}
	if got := NamesClause([]byte("/*!40101 SET NAMES utf8mb4 COLLATE 'x' */"), false); got != "NAMES utf8mb4 COLLATE 'x'" {
		t.Error(got)
	}
}
