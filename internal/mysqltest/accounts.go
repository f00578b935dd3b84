package mysqltest

import "github.com/perdure/perdure/internal/mysql/mysqld"

// rootPassword belongs to root@localhost, who gets in through the socket only.
var rootPassword = mysqld.NewPassword()

// admin is whom the product logs in as: what a controller needs and no more, so
// that tests notice when a statement asks for more. It may pass its privileges
// on to the recovery account it makes.
var admin = mysqld.Account{
	User: "perdure", Password: mysqld.NewPassword(),
	Grants: []mysqld.Grant{
		{
			Privileges: "SELECT, RELOAD, PROCESS, SHUTDOWN, CREATE USER, REPLICATION CLIENT, REPLICATION SLAVE, " +
				"GROUP_REPLICATION_ADMIN, GROUP_REPLICATION_STREAM, REPLICATION_SLAVE_ADMIN, " +
				"SYSTEM_VARIABLES_ADMIN, PERSIST_RO_VARIABLES_ADMIN, " +
				"CLONE_ADMIN, BACKUP_ADMIN, CONNECTION_ADMIN",
			MayGrant: true,
		},
		{Privileges: "INSERT, DELETE", On: "mysql.component"},
	},
}

// app is an application: it reads and writes rows and tables everywhere, and
// nothing lets it past super_read_only or offline_mode.
var app = mysqld.Account{
	User: "app", Password: mysqld.NewPassword(),
	Grants: []mysqld.Grant{{
		Privileges: "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, " +
			"CREATE TEMPORARY TABLES, LOCK TABLES, CREATE VIEW, SHOW VIEW, TRIGGER, " +
			"CREATE ROUTINE, ALTER ROUTINE, EXECUTE, EVENT",
	}},
}
