-- SPDX-License-Identifier: Apache-2.0
-- A state.db as a release with schema version 5 wrote it: state_store_test.cc has the same values.
BEGIN TRANSACTION;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO settings VALUES('id_floor','1007');
INSERT INTO settings VALUES('generation_floor','1099511627776');
INSERT INTO settings VALUES('config_text',replace('node: {name: lb-1}\n# ünïcode and ''quotes''\n','\n',char(10)));
INSERT INTO settings VALUES('config_source','/etc/millrace/millrace.yaml');
INSERT INTO settings VALUES('config_applied_ns','1700000000000000000');
INSERT INTO settings VALUES('config_file_text',replace('# no config\n','\n',char(10)));
INSERT INTO settings VALUES('config_is_from_file','0');
CREATE TABLE listeners (vip TEXT NOT NULL, protocol INTEGER NOT NULL, port INTEGER NOT NULL, slot INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (vip, protocol, port));
INSERT INTO listeners VALUES('203.0.113.10',6,80,0,1);
INSERT INTO listeners VALUES('203.0.113.10',17,80,1,2);
INSERT INTO listeners VALUES('2001:db8::10',6,80,4,3);
CREATE TABLE target_groups (name TEXT PRIMARY KEY, slot INTEGER NOT NULL, id INTEGER NOT NULL, protocol INTEGER NOT NULL, port INTEGER NOT NULL, forwarding INTEGER NOT NULL, deregistration_delay_seconds INTEGER NOT NULL, deregistration_connection_termination INTEGER NOT NULL, unhealthy_connection_termination INTEGER NOT NULL, lookup_slots INTEGER NOT NULL, gue_port INTEGER NOT NULL DEFAULT 6080, health_protocol INTEGER NOT NULL DEFAULT 0, health_port INTEGER NOT NULL DEFAULT 0, health_path TEXT NOT NULL DEFAULT '/', health_interval_ms INTEGER NOT NULL DEFAULT 30000, health_timeout_ms INTEGER NOT NULL DEFAULT 10000, healthy_threshold INTEGER NOT NULL DEFAULT 5, unhealthy_threshold INTEGER NOT NULL DEFAULT 2, health_matcher TEXT NOT NULL DEFAULT '200-399', listener_port INTEGER NOT NULL DEFAULT 0, health_host TEXT NOT NULL DEFAULT '');
INSERT INTO target_groups VALUES('plain',5,6,6,25,1,300,0,1,65537,6080,0,0,'/',30000,10000,5,2,'200-399',0,'');
INSERT INTO target_groups VALUES('web-80',2,4,17,8080,4,3600,1,1,655373,6099,1,9000,'/health?deep=''yes''',100,50,3,10,'200-299,418-418',443,'www.example.org:8080');
CREATE TABLE targets (target_group TEXT NOT NULL, address TEXT NOT NULL, port INTEGER NOT NULL, slot INTEGER NOT NULL, id INTEGER NOT NULL, weight INTEGER NOT NULL, zone TEXT NOT NULL, is_configured INTEGER NOT NULL, is_operator_drained INTEGER NOT NULL, registration INTEGER NOT NULL, drain_deadline_ns INTEGER NOT NULL, health_state INTEGER NOT NULL, health_reason INTEGER NOT NULL, health_description TEXT NOT NULL, PRIMARY KEY (target_group, address, port));
INSERT INTO targets VALUES('web-80','fd00::11',8080,9,4294967295,999,'b',0,1,1,1800000000000000000,2,3,'Health checks failed with these codes: [503]');
COMMIT;
PRAGMA user_version = 5;
